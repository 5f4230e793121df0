"""The work that a plan is for, as the options say it; knows no model but the longest context it was made for."""

from typing import Final

from corral.errors import BadInput
from corral.planner.plan import MOST_REQUESTS, TARGETS, Target, Workload

_CONTEXT: Final = 8192  # as `corral up` has it: a long chat
_PROMPT: Final = 2048
_OUTPUT: Final = 512


def workload(
    longest: int, *, context: int, prompt: int, output: int, cached: int, concurrency: int, target: str
) -> Workload:
    """What was asked for; what was left out (zero) is a chat of moderate length, no longer than the model allows.

    A prompt or an output that was named makes room for itself. BadInput for what no request can be.
    """
    named: Target | None = next((known for known in TARGETS if known == target), None)
    if named is None:
        raise BadInput(f"{target!r} is no target.", f"Use one of {', '.join(TARGETS)}.")
    if concurrency > MOST_REQUESTS:
        raise BadInput(
            f"So many requests in flight (--concurrency {str(concurrency)[:20]}) are asked of no deployment.",
            f"Ask for {MOST_REQUESTS} or less.",
        )
    _require_room(longest, prompt, output)
    wanted = (prompt or _PROMPT) + (output or _OUTPUT) if prompt or output else 0
    reserved = context or max(min(_CONTEXT, longest), min(wanted, longest))
    answer = output or max(1, min(_OUTPUT, reserved - prompt if prompt else reserved // 4))
    asked = prompt or max(1, min(_PROMPT, reserved - answer))
    if cached > asked:
        raise BadInput(
            f"The {cached} tokens that are cached are longer than the prompt of {asked}.",
            "Name a --prompt that holds them, or fewer --cached tokens.",
        )
    return Workload(
        context=reserved,
        prompt=asked,
        output=answer,
        concurrency=concurrency,
        cached=cached,
        target=next(name for name in TARGETS if name == target),
    )


def _require_room(longest: int, prompt: int, output: int) -> None:
    """Refuse a prompt or an output that leaves no token of the model's context for the other."""
    for name, length in (("prompt", prompt), ("output", output)):
        if length >= longest:
            raise BadInput(
                f"The --{name} takes all of the {longest} tokens that the model was made for, or more.",
                f"Ask for --{name} {longest - 1} or less.",
            )
