"""What the table hears of those who wait at the desk."""

import pytest

from corral.gateway.admission import LocalAdmission, Waiting
from corral.gateway.desk.desk import Desk
from corral.gateway.desk.values import Ask, Grant, Outcome, Replica
from corral.gateway.errors import ApiError
from corral.gateway.keyring import Keyring
from corral.gateway.metrics import Metrics
from corral.gateway.table import Failed, Loading, Offer, Ready, Table


async def generates(_replica):
    return True


def admission_of(table, desk=None):
    return LocalAdmission(desk or Desk(), table, Keyring(), Metrics(), generates)


async def test_a_grant_that_meets_a_client_on_its_way_out_is_given_back():
    table = Table()
    table.set("m", Ready(Replica(id="m", base_url="http://m", served_name="m", slots=1)))
    admission = admission_of(table)
    ask = Ask(request_id="x", route="/v1/chat/completions", model="m")
    first, second, third = (admission.arrive(ask) for _ in range(3))
    assert isinstance(first, Grant)
    second.granted.cancel()  # as when its task is cancelled, which has not run since
    admission.settle(first, Outcome(end="answered", status=200))
    admission.leave(second)
    grant = await third.granted
    admission.settle(grant, Outcome(end="answered", status=200))
    assert admission.standing().in_flight == {("m", "m"): 0}
    assert (table.use("m").in_flight, table.use("m").waiting) == (0, 0)
    admission.close()


async def test_who_waited_for_a_model_and_went_to_its_fallback_is_counted_out_where_it_was_counted_in():
    table = Table()
    table.offer([Offer("m", fallback=("b",)), Offer("b")])
    table.set("m", Loading("weights"))
    table.set("b", Ready(Replica(id="b", base_url="http://b", served_name="b")))
    admission = admission_of(table)
    waiting = admission.arrive(Ask(request_id="x", route="/v1/chat/completions", model="m"))
    assert isinstance(waiting, Waiting)
    assert (table.use("m").waiting, table.use("b").waiting) == (1, 0)
    table.set("m", Failed("no memory."))
    grant = await waiting.granted
    assert isinstance(grant, Grant)
    assert (grant.model, table.use("m").waiting, table.use("b").waiting) == ("b", 0, 0)
    admission.close()


async def test_who_cannot_wait_for_a_model_wants_it_all_the_same():
    table = Table()
    table.offer([Offer("m")])
    table.set("m", Loading("others leave first", 0.0, seconds=1e4))
    admission = admission_of(table)
    with pytest.raises(ApiError) as caught:
        admission.arrive(Ask(request_id="x", route="/v1/chat/completions", model="m", patience=5.0))
    assert caught.value.status == 503
    assert table.use("m").asked_last is not None
    admission.close()
