"""Names, aliases and fallbacks as graphs of any shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.desk.account import Account
from corral.gateway.desk.models import Model
from corral.gateway.desk.names import Names
from corral.gateway.desk.serving import ServedModel
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.values import KeyLimits
from corral.gateway.errors import ApiError
from gateway.desk.clocked import ask, ready

NAMES = [f"m{number}" for number in range(6)]
ANY = st.sampled_from([*NAMES, "alias", "other", "nothing"])
MODELS = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(st.lists(ANY, max_size=4), st.lists(ANY, max_size=2), st.booleans()),
    min_size=1,
)


def names_of(models) -> Names:
    names = Names()
    for name, (fallbacks, aliases, embeddings) in models.items():
        served = ServedModel(
            name=name, state=ready(), fallbacks=tuple(fallbacks), aliases=tuple(aliases), embeddings=embeddings
        )
        names.models[name] = Model(served, DeskSettings(), 0.0)
    names.changed()
    return names


@given(MODELS, st.none() | st.lists(ANY, max_size=4), st.sampled_from(["/v1/chat/completions", "/v1/embeddings"]))
def test_a_chain_ends_names_each_model_once_and_leads_nowhere_it_may_not(models, allowed, route):
    names = names_of(models)
    account = Account(KeyLimits(id="k", models=None if allowed is None else tuple(allowed)))
    for first in names.models.values():
        chain = list(names.chain(first, ask(route=route), account))
        assert chain[0] is first
        assert len({model.name for model in chain}) == len(chain)
        for model in chain[1:]:
            assert names.may(account, model)
            assert model.served.embeddings == (route == "/v1/embeddings")


@given(MODELS, st.none() | st.lists(ANY, max_size=4), ANY)
def test_who_may_ask_for_a_name_is_who_has_a_name_of_the_same_model(models, allowed, asked):
    names = names_of(models)
    account = Account(KeyLimits(id="k", models=None if allowed is None else tuple(allowed)))
    meant = names.find(asked)
    permitted = meant is not None and (allowed is None or any(names.find(name) is meant for name in allowed))
    assert (asked in names.usable(account)) == permitted
    if meant is None or not permitted:
        with pytest.raises(ApiError) as raised:
            names.asked(ask(asked), account)
        assert raised.value.status == (404 if meant is None else 403)


def test_a_models_own_name_goes_before_anothers_alias_and_the_first_alias_before_the_second():
    names = names_of({"m0": ([], ["m1", "alias"], False), "m1": ([], ["alias"], False)})
    assert names.find("m1") is names.models["m1"]
    assert names.find("alias") is names.models["m0"]


def test_a_chain_goes_deep_before_it_goes_on():
    names = names_of(
        {"m0": (["m1", "m2"], [], False), "m1": (["m3"], [], False), "m2": ([], [], False), "m3": ([], [], False)}
    )
    chain = names.chain(names.models["m0"], ask(), Account(KeyLimits(id="k")))
    assert [model.name for model in chain] == ["m0", "m1", "m3", "m2"]
