"""What a key may do: each limit says which it is, waits are true, and cancelling evades nothing."""

import pytest

from corral.gateway.desk.values import Grant, KeyLimits, Outcome
from corral.gateway.errors import ApiError
from gateway.desk.clocked import Clocked, answered, ask, ready, replica

LEFT = Outcome(end="left")


def desk(**limits) -> Clocked:
    clocked = Clocked()
    clocked.serve()
    clocked.keys(KeyLimits(id="k", **limits))
    return clocked


def refusal(clocked: Clocked, **fields) -> ApiError:
    with pytest.raises(ApiError) as raised:
        clocked.arrive(key="k", **fields)
    return raised.value


def retry_after(error: ApiError) -> int:
    return int(dict(error.headers)[b"retry-after"])


def test_requests_a_minute_are_refused_with_a_wait_that_is_true():
    clocked = desk(requests_per_minute=3)
    for _ in range(3):
        clocked.settle(clocked.arrive(key="k"))
        clocked.now += 5
    error = refusal(clocked)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert "3 requests a minute" in error.message
    assert retry_after(error) == 45
    clocked.now += 44
    refusal(clocked)
    clocked.now += 1
    assert clocked.arrive(key="k")


def test_tokens_a_minute_are_reserved_and_then_corrected():
    clocked = desk(tokens_per_minute=1000)
    grant = clocked.arrive(key="k", prompt_tokens=100, output_tokens=800)
    error = refusal(clocked, prompt_tokens=700)
    assert "1000 tokens a minute" in error.message
    clocked.settle(grant, answered(prompt_tokens=100, output_tokens=50))
    assert clocked.arrive(key="k", prompt_tokens=700, output_tokens=100)
    assert "about 100" in refusal(clocked, prompt_tokens=95, output_tokens=5).message


def test_an_answer_longer_than_expected_counts_from_when_it_ended():
    clocked = desk(tokens_per_minute=1000)
    grant = clocked.arrive(key="k", prompt_tokens=10)
    clocked.now += 120
    clocked.settle(grant, answered(120.0, prompt_tokens=10, output_tokens=990))
    error = refusal(clocked, prompt_tokens=900, output_tokens=1)
    assert 59 <= retry_after(error) <= 60
    clocked.now += retry_after(error)
    assert clocked.arrive(key="k", prompt_tokens=900, output_tokens=1)


def test_a_prompt_larger_than_the_limit_is_told_never_and_a_guess_at_the_answer_never_is():
    clocked = desk(tokens_per_minute=1000)
    error = refusal(clocked, prompt_tokens=1001)
    assert "this prompt alone" in error.message
    assert dict(error.headers)[b"x-should-retry"] == b"false"
    assert b"retry-after" not in dict(error.headers)
    assert clocked.arrive(key="k", prompt_tokens=999, output_tokens=100_000)


def test_the_longest_of_several_waits_is_told():
    clocked = desk(requests_per_minute=2, tokens_per_minute=100)
    for tokens in (1, 95):
        grant = clocked.arrive(key="k", prompt_tokens=tokens, output_tokens=1)
        clocked.settle(grant, answered(prompt_tokens=tokens, output_tokens=1))
        clocked.now += 20
    error = refusal(clocked, prompt_tokens=5, output_tokens=1)
    assert "tokens a minute" in error.message
    assert retry_after(error) == 40
    clocked.now += 40
    assert clocked.arrive(key="k", prompt_tokens=5, output_tokens=1)


def test_a_day_ends_at_midnight_in_utc():
    clocked = desk(tokens_per_day=1000)
    clocked.now = 86400 - 7200
    clocked.settle(
        clocked.arrive(key="k", prompt_tokens=500, output_tokens=400), answered(prompt_tokens=500, output_tokens=400)
    )
    error = refusal(clocked, prompt_tokens=200, output_tokens=1)
    assert "1000 tokens a UTC day, and used 900" in error.message
    assert retry_after(error) == 7200
    assert dict(error.headers)[b"x-should-retry"] == b"false"  # clients would not wait that long, but ask at once
    clocked.now += 7200
    assert clocked.arrive(key="k", prompt_tokens=200, output_tokens=1)


def test_what_was_used_before_a_restart_counts_for_the_same_day_only():
    clocked = desk(tokens_per_day=1000)
    clocked.desk.charge("k", 990, 20_000 * 86400.0)
    refusal(clocked, prompt_tokens=20)
    clocked.desk.charge("k", 5000, 20_001 * 86400.0)
    clocked.desk.charge("k", 990, 20_000 * 86400.0)
    assert clocked.desk.snapshot(0).keys["k"].tokens_today == 5000


def test_requests_at_once_count_while_they_wait_and_while_they_run():
    clocked = desk(concurrent=2)
    first = clocked.arrive(key="k")
    clocked.arrive(key="k")
    error = refusal(clocked)
    assert (error.status, "2 requests at once" in error.message) == (429, True)
    assert retry_after(error) >= 1
    clocked.settle(first, LEFT)
    clocked.settle(first, LEFT)  # twice is no error, and frees nothing more
    assert clocked.arrive(key="k")
    refusal(clocked)


def test_leaving_early_does_not_evade_limits():
    clocked = desk(requests_per_minute=5, tokens_per_minute=10_000)
    for _ in range(5):
        clocked.settle(clocked.arrive(key="k", prompt_tokens=1000), LEFT)
    assert "5 requests a minute" in refusal(clocked).message
    assert clocked.desk.snapshot(clocked.now).keys["k"].tokens_in_minute >= 5000


def test_an_answer_that_is_broken_off_is_charged_by_its_time():
    clocked = desk(tokens_per_minute=100_000)
    clocked.settle(
        clocked.arrive(key="k", prompt_tokens=10, output_tokens=50),
        Outcome(end="left", status=200, seconds=101, first_token=1),
    )
    assert clocked.desk.snapshot(clocked.now).keys["k"].tokens_in_minute == pytest.approx(2010)  # at 20 tok/s


def test_what_no_engine_ran_costs_no_tokens():
    clocked = desk(tokens_per_minute=1000)
    clocked.settle(clocked.arrive(key="k", prompt_tokens=900), Outcome(end="refused", status=400))
    clocked.settle(clocked.arrive(key="k", prompt_tokens=900), Outcome(end="unreachable"))
    assert clocked.arrive(key="k", prompt_tokens=900)


def test_a_refused_request_counts_for_nothing():
    clocked = desk(requests_per_minute=2, concurrent=1)
    grant = clocked.arrive(key="k")
    for _ in range(50):
        refusal(clocked)
    clocked.settle(grant)
    assert clocked.arrive(key="k")


def test_what_the_server_had_no_place_for_counts_for_nothing_either():
    clocked = desk(requests_per_minute=2, tokens_per_minute=1000, tokens_per_day=1000)
    clocked.serve(ready(replica(slots=1)))
    grant = clocked.arrive(key="k", prompt_tokens=10, output_tokens=10)
    for _ in range(50):
        assert refusal(clocked, patience=0.0, prompt_tokens=900, output_tokens=1).status in {429, 503}
    clocked.settle(grant, answered(prompt_tokens=10, output_tokens=10))
    assert clocked.arrive(key="k", prompt_tokens=900, output_tokens=1)
    assert clocked.desk.snapshot(clocked.now).keys["k"].requests_in_minute == 2


def test_one_keys_limit_is_not_anothers():
    clocked = desk(requests_per_minute=1)
    clocked.keys(KeyLimits(id="k", requests_per_minute=1), KeyLimits(id="other"))
    clocked.arrive(key="k")
    refusal(clocked)
    assert all(isinstance(clocked.arrive(key="other"), Grant) for _ in range(100))


def test_changed_limits_keep_what_was_used():
    clocked = desk(requests_per_minute=5, tokens_per_minute=100)
    grant = clocked.arrive(key="k", prompt_tokens=50, output_tokens=50)
    clocked.keys(KeyLimits(id="k"))
    clocked.settle(grant, answered(prompt_tokens=1, output_tokens=1))
    clocked.keys(KeyLimits(id="k", requests_per_minute=1, tokens_per_minute=100))
    assert "1 requests a minute" in refusal(clocked, output_tokens=1).message


def test_a_revoked_key_is_refused_and_what_it_runs_ends_well():
    clocked = desk(concurrent=5)
    grant = clocked.arrive(key="k")
    clocked.keys()
    assert refusal(clocked).status == 401
    clocked.settle(grant)
    assert clocked.desk.snapshot(clocked.now).models["m"].running == 0


@pytest.mark.parametrize("allowed", [("m",), ("alias",)])
@pytest.mark.parametrize("asked", ["m", "alias"])
def test_a_name_and_its_alias_are_one_model_to_a_key(allowed, asked):
    clocked = Clocked()
    clocked.serve(aliases=("alias",))
    clocked.serve(name="secret")
    clocked.keys(KeyLimits(id="k", models=allowed))
    assert isinstance(clocked.arrive(key="k", model=asked), Grant)
    error = refusal(clocked, model="secret")
    assert (error.status, error.code) == (403, "model_not_allowed")
    assert clocked.desk.usable("k") == ("m", "alias")
    assert "secret" not in refusal(clocked, model="nothing").message


def test_an_alias_that_is_moved_takes_the_keys_permission_along():
    clocked = Clocked()
    clocked.serve(name="a", aliases=("best",))
    clocked.serve(name="b")
    clocked.keys(KeyLimits(id="k", models=("best",)))
    assert clocked.arrive(key="k", model="best").model == "a"
    clocked.serve(name="a")
    clocked.serve(name="b", aliases=("best",))
    assert clocked.arrive(key="k", model="best").model == "b"
    refusal(clocked, model="a")


def test_a_request_that_names_no_model_means_the_only_one_it_can():
    clocked = Clocked()
    clocked.serve(name="a")
    clocked.serve(name="b")
    clocked.serve(name="e", embeddings=True)
    clocked.keys(KeyLimits(id="k", models=("b", "e")))
    assert clocked.arrive(ask(None, key="k")).model == "b"
    assert clocked.arrive(ask(None, key="k", route="/v1/embeddings")).model == "e"
    with pytest.raises(ApiError, match="names no model"):
        clocked.arrive(ask(None))
