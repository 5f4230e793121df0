"""What the models' names, aliases and fallbacks lead to; knows no state and no limit but the models a key may use.

A key's list of models may hold names and aliases; each stands for the model that it leads to. So a key that may use the
alias may name the model itself, and the reverse; and it may use a fallback only if its list leads there too.
"""

from collections.abc import Iterator

from corral.gateway import errors
from corral.gateway.desk.account import Account
from corral.gateway.desk.models import Model
from corral.gateway.desk.serving import Failed
from corral.gateway.desk.values import Ask
from corral.gateway.routes import EMBEDDINGS, GENERATING


class Names:
    """All models by every name that they have."""

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self._aliases: dict[str, str] = {}
        self._epoch = 0

    def changed(self) -> None:
        """Look at the models anew: one came, went, or has other names. Of two with one alias, the first has it."""
        self._epoch += 1
        self._aliases = {}
        for name, model in self.models.items():
            for alias in model.served.aliases:
                self._aliases.setdefault(alias, name)

    def find(self, name: str) -> Model | None:
        """The model that a name or an alias leads to."""
        model = self.models.get(name)
        return model if model is not None else self.models.get(self._aliases.get(name, ""))

    def usable(self, account: Account) -> tuple[str, ...]:
        """The names and aliases that a key may ask for."""
        names = (*self.models, *(alias for alias in self._aliases if alias not in self.models))
        return tuple(name for name in names if (model := self.find(name)) and self.may(account, model))

    def may(self, account: Account, model: Model) -> bool:
        """Whether a key may use a model."""
        if account.epoch != self._epoch:
            wanted = account.limits.models
            found = None if wanted is None else (self.find(name) for name in wanted)
            account.allowed = None if found is None else frozenset(model.name for model in found if model is not None)
            account.epoch = self._epoch
        return account.allowed is None or model.name in account.allowed

    def asked(self, ask: Ask, account: Account) -> Model:
        """The model that a request means; ApiError where there is none, or not for this key or this route."""
        if ask.model is None:
            return self._only(ask, account)
        model = self.find(ask.model)
        if model is None:
            raise errors.unknown_model(ask.model, self.usable(account))
        if not self.may(account, model):
            raise errors.model_not_allowed(ask.model, self.usable(account))
        if not fits(model, ask.route):
            name = model.name
            raise errors.only_embeds(name) if model.served.embeddings else errors.only_generates(name)
        return model

    def _only(self, ask: Ask, account: Account) -> Model:
        """The one model that a request can mean which names none."""
        can = [model for model in self.models.values() if fits(model, ask.route) and self.may(account, model)]
        meant = [model for model in can if not isinstance(model.state, Failed)] or can
        if len(meant) != 1:
            raise errors.missing_model(self.usable(account))
        return meant[0]

    def chain(self, model: Model, ask: Ask, account: Account) -> Iterator[Model]:
        """The model, then what may answer in its place: its fallbacks, theirs, and so on, each once."""
        seen: set[str] = set()
        ahead = [model]
        while ahead:
            at = ahead.pop()
            if at.name in seen:
                continue
            seen.add(at.name)
            if at is model or (fits(at, ask.route) and self.may(account, at)):
                yield at
            found = [other for name in at.served.fallbacks if (other := self.find(name)) is not None]
            ahead += reversed(found)


def fits(model: Model, route: str) -> bool:
    """Whether a model is, or may be, of the kind that this route asks for. Routes for no kind suit both."""
    if route == EMBEDDINGS:
        return model.served.embeddings is not False
    return not (model.served.embeddings and route in GENERATING)
