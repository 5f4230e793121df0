"""The rules of who stays and who leaves, as data in and an action out."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.launcher.residency import Evict, Load, Refuse, Resident, Rules, Wait, Wish, decide, expired, stay

SIZES = {"a": 6, "b": 6, "c": 3, "d": 2, "e": 11}
WISH = Wish("b", since=100.0)
RULES = Rules(min_loaded=0, min_stay=10.0)


def resident(name, ready_at=0.0, load_seconds=2.0, used=None, **more):
    used = (ready_at or 0.0) if used is None else used
    return Resident(name=name, ready_at=ready_at, load_seconds=load_seconds, used=used, **more)


def memory(total, wish, residents, sizes=SIZES):
    """Room on a machine of so much memory."""

    def room(leaving):
        held = sum(sizes[one.name] for one in residents if one.name not in leaving)
        left = total - held
        return "" if sizes[wish] <= left else f"it needs {sizes[wish]}, {left} are left."

    return room


def decided(residents, *, wish=WISH, now=100.0, total=10, rules=RULES):
    return decide(wish, residents, rules, now, memory(total, wish.name, residents))


@pytest.mark.parametrize(
    ("what", "residents", "action"),
    [
        ("nothing runs", [], Load()),
        ("it fits beside", [resident("c")], Load()),
        ("an idle one leaves", [resident("a")], Evict(("a",))),
        ("the longest unused of two", [resident("c", used=50), resident("d", used=20), resident("d2", used=40)], None),
        ("a pinned one stays", [resident("a", pinned=True)], Refuse("it needs 6, 4 are left. a is pinned.")),
        ("one that has just come", [resident("a", ready_at=95.0)], Wait(5.0, "a has just been loaded")),
        ("one that took long", [resident("a", ready_at=50.0, load_seconds=80.0)], Wait(30.0, "a has just been loaded")),
        ("one that loads", [resident("a", ready_at=None)], Wait(12.0, "a is loaded first")),
        ("one in use", [resident("a", in_flight=1)], Wait(10.0, "a is in use")),
        ("one that others wait for", [resident("a", waiting=3)], Wait(10.0, "a is in use")),
        ("one that leaves already", [resident("a", leaving=True)], Wait(1.0, "a leaves")),
    ],
)
def test_a_model_that_is_asked_for(what, residents, action):
    if action is None:
        sizes = {**SIZES, "d2": 2}
        room = memory(10, "b", residents, sizes)
        assert decide(WISH, residents, RULES, 100.0, room) == Evict(("c",)), "one is enough, whatever was used when"
        return
    assert decided(residents) == action, what


def test_the_longest_unused_of_those_that_would_do():
    residents = [resident("a", used=50), resident("e2", used=20)]
    room = memory(17, "b", residents, {**SIZES, "e2": 6})
    assert decide(WISH, residents, RULES, 100.0, room) == Evict(("e2",))


def test_the_fewest_leave_and_no_one_for_nothing():
    residents = [resident("d", used=1), resident("c", used=2), resident("a", used=3)]
    assert decided(residents, total=11) == Evict(("a",))
    assert decided(residents, wish=Wish("e", 100.0), total=12) == Evict(("d", "c", "a"))


def test_idle_ones_leave_before_one_in_use_even_if_they_are_more():
    residents = [resident("a", used=1, in_flight=1), resident("c", used=5), resident("d", used=6)]
    assert decided(residents, total=12, now=200.0, wish=Wish("b", 0.0)) == Evict(("c", "d"))


def test_a_model_in_use_leaves_once_the_other_has_waited_as_long_as_it_must_stay():
    busy = [resident("a", in_flight=2, load_seconds=30.0)]
    assert decided(busy, now=129.0) == Wait(1.0, "a is in use")
    assert decided(busy, now=130.0) == Evict(("a",))


def test_min_loaded_counts_the_new_one_and_keeps_the_rest():
    two = [resident("c"), resident("d")]
    big = Wish("e", 100.0)
    assert decided(two, wish=big, total=11, rules=Rules(min_loaded=1)) == Evict(("c", "d"))
    refused = decided(two, wish=big, total=11, rules=Rules(min_loaded=2))
    assert refused == Refuse("Room for it would leave fewer than 2 models loaded.")
    assert decided([resident("a")], rules=Rules(min_loaded=5)) == Evict(("a",)), "it takes a's place"


def test_what_is_larger_than_everything_is_refused_without_anybody_leaving():
    assert decided([resident("a")], wish=Wish("e", 0.0), total=10) == Refuse("it needs 11, 10 are left.")


def test_of_many_models_those_that_were_used_last_stay():
    residents = [resident(f"m{n}", used=float(n)) for n in range(12)]
    sizes = {f"m{n}": 1 for n in range(12)} | {"b": 2}
    assert decide(WISH, residents, RULES, 100.0, memory(12, "b", residents, sizes)) == Evict(("m0", "m1"))
    large = sizes | {"b": 12}
    assert len(decide(WISH, residents, RULES, 100.0, memory(12, "b", residents, large)).names) == 12


def test_idle_models_leave_after_their_time_but_not_the_last_ones_and_not_early():
    old = resident("a", ttl=60.0, used=30.0)
    assert expired([old], RULES, 89.0) == ()
    assert expired([old], RULES, 90.0) == ("a",)
    assert expired([old], Rules(min_loaded=1), 90.0) == ()
    assert expired([old, resident("c", ttl=60.0, used=10.0)], Rules(min_loaded=1), 90.0) == ("c",)
    for busy in ({"in_flight": 1}, {"waiting": 1}, {"pinned": True}, {"leaving": True}, {"ttl": None}):
        assert expired([resident("a", **{"ttl": 60.0, "used": 30.0, **busy})], RULES, 900.0) == ()
    assert expired([resident("a", ready_at=None, ttl=1.0)], RULES, 900.0) == ()
    assert expired([resident("a", ttl=1.0, load_seconds=50.0)], RULES, 49.0) == (), "it stays as long as its load took"


RESIDENTS = st.lists(
    st.builds(
        Resident,
        name=st.sampled_from(["a", "c", "d", "e"]),
        ready_at=st.none() | st.floats(0, 300),
        load_seconds=st.floats(0, 100),
        used=st.floats(0, 300),
        in_flight=st.integers(0, 2),
        waiting=st.integers(0, 2),
        pinned=st.booleans(),
        leaving=st.booleans(),
        ttl=st.none() | st.floats(0, 100),
    ),
    unique_by=lambda one: one.name,
)


@settings(max_examples=300)
@given(RESIDENTS, st.integers(1, 30), st.floats(0, 300), st.integers(0, 4), st.floats(0, 300))
def test_whatever_is_there_the_rules_hold(residents, total, now, min_loaded, since):
    rules = Rules(min_loaded=min_loaded, min_stay=10.0)
    residents = [one for one in residents if one.ready_at is None or one.ready_at <= now]
    room = memory(total, "b", residents)
    wish = Wish("b", min(since, now))
    action = decide(wish, residents, rules, now, room)
    by_name = {one.name: one for one in residents}
    leaving = frozenset(one.name for one in residents if one.leaving)
    if isinstance(action, Load):
        assert not room(frozenset())
    if isinstance(action, Wait):
        assert action.seconds > 0
        movable = leaving | {one.name for one in residents if not one.pinned}
        assert not room(movable), "waiting is of use"
    if isinstance(action, Refuse):
        assert action.why
    if isinstance(action, Evict):
        assert not room(leaving | set(action.names)), "it makes room"
        assert room(leaving | set(action.names[1:])), "and none too many leave"
        staying = len(residents) - len(leaving)
        assert staying - len(action.names) + 1 >= min(min_loaded, staying)
        for one in (by_name[name] for name in action.names):
            assert not one.pinned
            assert not one.leaving
            assert one.ready_at is not None
            assert now >= one.ready_at + stay(one, rules), "it has stayed as long as its load took, and 10 s"
            assert one.idle or now >= wish.since + stay(one, rules), "fairness alone moves one that is in use"


@settings(max_examples=60)
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=30), st.floats(0.1, 40), st.integers(11, 20))
def test_asked_in_any_order_everyone_is_served_and_loads_are_bounded_by_time(asked, load_seconds, total):
    """A simulation: each model is asked for one after another, as a client does that waits for its answer."""
    now, loaded, loads = 0.0, {}, []
    for name in asked:
        since = now
        for _ in range(1000):
            if name in loaded:
                break
            residents = [resident(n, ready_at=t, load_seconds=load_seconds, used=u) for n, (t, u) in loaded.items()]
            action = decide(Wish(name, since), residents, RULES, now, memory(total, name, residents))
            if isinstance(action, Load):
                now += load_seconds
                loaded[name] = (now, now)
                loads.append(now)
            elif isinstance(action, Evict):
                for gone in action.names:
                    del loaded[gone]
            else:
                assert isinstance(action, Wait), action
                now += action.seconds
        assert name in loaded
        loaded[name] = (loaded[name][0], now)
        assert sum(SIZES[n] for n in loaded) <= total
    # What was loaded stays: never more loads than fit into the time that each must stay, times what fits at once.
    assert len(loads) <= (now / (load_seconds + stay(resident("a", load_seconds=load_seconds), RULES)) + 1) * 4


def test_two_clients_that_never_stop_are_served_in_batches():
    """Two models too large for both, each asked for all the time: each is loaded at most once in its stay."""
    now, loaded, ready_at, switches = 0.0, "a", 0.0, []
    since = 0.0
    while now < 400.0:
        other = "b" if loaded == "a" else "a"
        there = [resident(loaded, ready_at=ready_at, load_seconds=5.0, used=now, in_flight=1)]
        action = decide(Wish(other, since), there, RULES, now, memory(10, other, there))
        if isinstance(action, Wait):
            now += action.seconds
            continue
        assert action == Evict((loaded,))
        now += 5.0
        since, loaded, ready_at = now - 5.0, other, now  # the one that left is missed at once
        switches.append(now)
    gaps = [later - earlier for earlier, later in pairwise(switches)]
    assert all(gap >= 15.0 for gap in gaps), "5 s to load, 10 s to stay"
    assert len(switches) >= 20, "and neither is forgotten"
