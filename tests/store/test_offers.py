from itertools import count

import pytest

from corral.cluster.values import Cluster, Node
from corral.errors import DoesNotFit
from corral.store.state import Store
from corral.store.values import DeploymentRequest, Offered


def offer(name="m", **more):
    return Offered(request=DeploymentRequest(name=name, cluster=Cluster(nodes=(Node(name="here"),))), **more)


@pytest.fixture
def store(tmp_path):
    with Store(count(1000.0).__next__, tmp_path) as opened:
        yield opened


def test_offers_are_read_back_in_their_order_by_another_process(store, tmp_path):
    store.offer(offer("z", aliases=("zed",), ttl=60.0), offer("a", pinned=True, replicas=2))
    store.offer(offer("k"))
    with Store(count().__next__, tmp_path) as other:
        assert [one.name for one in other.offers()] == ["z", "a", "k"]
        assert other.offers()[0] == offer("z", aliases=("zed",), ttl=60.0)
    assert [request.name for request in store.offers()[1].requests] == ["a", "a~2"]


def test_the_same_offer_again_is_no_error_and_another_of_its_name_is_refused(store):
    store.offer(offer("m"), offer("n"))
    store.offer(offer("m"))
    with pytest.raises(DoesNotFit, match="offered already, with other settings"):
        store.offer(offer("x"), offer("m", ttl=5.0))
    assert [one.name for one in store.offers()] == ["m", "n"], "all or none"


def test_what_is_offered_and_to_be_loaded_is_written_in_one_step(store):
    store.request(offer("m").request)
    with pytest.raises(DoesNotFit, match="already queued"):
        store.offer(offer("n"), offer("m"), load=offer("m").requests)
    assert store.offers() == ()


def test_a_model_that_is_offered_no_more_is_not_launched(store):
    store.offer(offer("m", replicas=2))
    assert store.launch(offer("m", replicas=2))
    assert [known.name for known in store.deployments()] == ["m", "m~2"]
    store.withdraw("m", "unknown")
    assert not store.launch(offer("m"))
    assert store.get("m").state == "queued", "what runs of it runs on"


def test_the_mark_changes_with_the_offers(store):
    marks = [store.offers_mark()]
    store.offer(offer("m"))
    marks.append(store.offers_mark())
    store.withdraw("m")
    store.offer(offer("n"))
    marks.append(store.offers_mark())
    assert len(set(marks)) == 3


def test_a_head_knows_the_offers_once_it_has_said_so(store):
    store.offer(offer("a"))
    assert not store.offers_seen(7)
    store.note_offers_seen(7)
    assert store.offers_seen(7)
    assert not store.offers_seen(8)  # another head has yet to look
    store.offer(offer("b"))
    assert not store.offers_seen(7)
