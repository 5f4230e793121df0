"""What makes one way better than another, by what the user wants most; knows no layout's making."""

from dataclasses import dataclass

from corral.planner.plan import Target


@dataclass(frozen=True, slots=True)
class Figures:
    """What ways are compared by."""

    decode: float  # tok/s of one stream
    output: float  # tok/s of all streams
    ttft: float  # seconds
    answer: float  # seconds until one stream's whole answer stands
    context: int  # tokens, 0 where nobody asked
    wh_per_1000: float
    devices: int
    bits: float  # of a weight on average: of two ways that are equal otherwise the one closer to the original


def merit(target: Target, figures: Figures) -> tuple[float, ...]:
    """A key that is larger for the better way. Equals are told apart by the other figures, then by fewer devices.

    The speed of a single stream is that of its whole answer: generating fast is of no use after a minute of waiting for
    the first token, as over a link that prompts choke on.
    """
    speed = (-figures.answer, figures.decode, figures.output)
    rest = (-float(figures.devices), -figures.ttft, figures.bits)
    match target:
        case "speed":
            return (*speed, *rest)
        case "throughput":
            return (figures.output, -figures.answer, *rest)
        case "context":
            return (float(figures.context), *speed, *rest)
        case "watts":
            return (-figures.wh_per_1000, *speed, *rest)
