"""The figures that physics leaves open, for one case: efficiencies and overheads; knows not where they come from."""

from typing import NamedTuple


class Rates(NamedTuple):
    """What the terms are made with. Shares are of the data sheet's peak; times in seconds."""

    read: float  # share of the bandwidth that reading dense weights reaches
    width: float  # exponent of hidden size / 4096 by which reading narrow matrices is slower
    swift: float  # exponent of bandwidth / 500 GB/s by which faster memory is used less well
    read_experts: float  # the same for experts, as a multiple of `read`
    read_cache: float  # share of the bandwidth that reading the cache reaches
    state: float  # times that a recurrent state's bytes move in a step, as a multiple of once in and once out
    rested: float  # more of the memory's rate at most on a device that waits for the others: it runs cooler
    compute: float  # share of the peak that a decode batch's matrices reach
    layer: float  # per half layer (a mixer or a feed-forward) and step
    recurrent: float  # more per recurrent layer and step
    routed: float  # more per expert layer and step
    step: float  # per step
    sequence: float  # per step and sequence in flight
    spread: float  # exponent of the tokens of a batch, as far as they choose experts on their own
    collective: float  # per all-reduce or all-to-all: its software, launches and waits included
    latency: float  # multiple of the link's latency that a round of a collective takes
    wire: float  # share of the link's bandwidth that large messages reach
    hop: float  # multiple of the link's latency that a hand-off between stages takes
    mfu: float  # share of the peak that a prompt's dense matrices reach
    scale: float  # exponent of the 16-bit peak / 100 TFLOPS by which larger devices reach a smaller share
    mfu_experts: float  # the same for experts, as a multiple of `mfu`
    mfu_attention: float  # share of the 16-bit peak that a prompt's attention reaches
    wide: float  # share of that rate with heads of more than 256 values, which most fast kernels do not take
    scan: float  # share of the 16-bit peak that a prompt's recurrences reach
    half: float  # tokens of a chunk at which half of `mfu` is reached, at hidden size 4096
    layer_prompt: float  # per half layer and chunk of a prompt
    request: float  # per request, before its first token
    interference: float  # share of a prompt's time by which other streams wait
    peers: float  # prompts that one shares its time with at most, at a steady load of many streams
    queue: float  # other streams at which half of these are reached
    lockstep: float  # prompts that wait before one, more for each other stream: those of a run's common beginning
    power: float  # exponent of (power limit / stock limit) by which computing slows
    power_read: float  # the same for reading weights and cache
    pace: float = 1.0  # a decode step's time as a multiple of all the above: what a user's own runs say
    pace_prompt: float = 1.0  # the same of a prompt's time
