"""What is remembered of prompts' beginnings: it is right, it is bounded, the unused goes first."""

from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.desk.prefixes import Prefixes


def digests(*blocks: str) -> tuple[bytes, ...]:
    return tuple("/".join(blocks[: at + 1]).encode() for at in range(len(blocks)))


def send(prefixes: Prefixes, prompt: tuple[bytes, ...]) -> int:
    known = prefixes.known(prompt)
    prefixes.add(prompt, known)
    return known


PROMPTS = st.lists(st.lists(st.sampled_from("ab"), max_size=6), max_size=40)


@given(PROMPTS)
def test_knows_the_longest_common_beginning_with_any_prompt(prompts):
    prefixes = Prefixes(10_000)
    sent: list[list[str]] = []
    for prompt in prompts:
        longest = max(
            (
                next(
                    (i for i, (x, y) in enumerate(zip(one, prompt, strict=False)) if x != y), min(len(one), len(prompt))
                )
                for one in sent
            ),
            default=0,
        )
        assert send(prefixes, digests(*prompt)) == longest
        sent.append(prompt)


@given(st.integers(2, 50), st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=100))
def test_never_holds_more_than_its_bound_nor_claims_what_was_not_sent(entries, prompts):
    prefixes = Prefixes(entries)
    sent: set[bytes] = set()
    for prompt in prompts:
        blocks = digests(*map(str, prompt))
        known = send(prefixes, blocks)
        assert known == 0 or blocks[known - 1] in sent
        sent.update(blocks)
        assert len(prefixes) <= entries


def test_what_is_used_stays_and_what_is_not_used_goes():
    prefixes = Prefixes(100)
    send(prefixes, digests("system", "old"))
    for number in range(1000):
        assert send(prefixes, digests("system", str(number))) == 1
    assert prefixes.known(digests("system", "old")) == 1
    assert prefixes.known(digests("system", "999")) == 2


def test_a_beginning_stays_known_while_what_follows_it_is_used():
    prefixes = Prefixes(100)
    for number in range(1000):
        assert send(prefixes, digests("system", "tools", str(number))) == (2 if number else 0)


def test_what_did_not_run_is_forgotten():
    prefixes = Prefixes(100)
    prompt = digests("a", "b")
    send(prefixes, prompt)
    prefixes.forget(prompt, 0)
    assert prefixes.known(prompt) == 0
