"""What a plan is made of: the work, the ways to do it with their memory, speed and watts; knows no search.

Everything here is one JSON document (`corral plan --json`). Memory is in bytes, time in seconds, rates in tok/s.
"""

from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import ConfigDict, Field

from corral.planner.speed.values import Speed
from corral.values import Value

SCHEMA: Final = "corral.plan/1"
Target: TypeAlias = Literal["speed", "throughput", "context", "watts"]
TARGETS: Final[tuple[Target, ...]] = get_args(Target)
MOST_REQUESTS: Final = 100_000
"""In flight at a time: more are asked of no deployment."""
Tokens: TypeAlias = Annotated[int, Field(ge=1, le=2**31)]


class Workload(Value):
    """What is asked of a deployment: requests of `prompt` tokens that make `output` more, so many at a time.

    `context` is what memory is reserved for, of each request in flight: prompt, output and what was said before.
    """

    context: Tokens
    prompt: Tokens
    output: Tokens
    concurrency: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] = 1
    cached: Annotated[int, Field(ge=0)] = 0  # of the prompt, answered by the prefix cache
    target: Target = "speed"


class Share(Value):
    """A part of a rank's memory."""

    name: str  # "weights", "kv cache", "state", "activations", ...
    bytes: int


class Rank(Value):
    """One rank's place and what it holds there."""

    rank: int
    replica: int
    stage: int
    node: str
    device: int  # the node's index of the device; -1: the node's CPU
    holds: tuple[Share, ...]
    usable: int  # bytes that the engine may take of this device

    @property
    def total(self) -> int:
        """Bytes of all it holds."""
        return sum(share.bytes for share in self.holds)


class NodePower(Value):
    """Watts of one node at the wall: doing nothing, reading prompts, generating."""

    node: str
    idle: float
    prefill: float
    decode: float

    @property
    def most(self) -> float:
        """The most it draws for longer than a moment."""
        return max(self.idle, self.prefill, self.decode)


class Power(Value):
    """Watts of every node of the cluster, and what tokens cost."""

    nodes: tuple[NodePower, ...]
    other: float = 0.0  # switches
    idle: float  # all together
    prefill: float
    decode: float
    wh_per_1000: float  # energy at the wall for 1,000 generated tokens with their share of prompts, in watt hours
    assumptions: tuple[str, ...] = ()


class Money(Value):
    """What electricity costs at the cluster file's price; a month has 730 hours."""

    currency: str
    per_kwh: float
    month_idle: float
    month_busy: float  # generating day and night
    per_million_tokens: float  # generated


class CircuitLoad(Value):
    """A breaker and what hangs on it. `continuous` is 80 % of the rating: what may be drawn for hours."""

    circuit: str
    nodes: tuple[str, ...]
    watts: float
    amps: float
    continuous: float  # watts
    rating: float  # watts

    @property
    def headroom(self) -> float:
        """Watts that are left; negative when it is too much."""
        return self.continuous - self.watts


class Candidate(Value):
    """One way to run the model, with what it holds, how fast it is and what it draws."""

    layout: str  # "tp4xpp2"
    tp: int
    pp: int
    ep: int
    dp: int
    engine: str
    weights: str  # weight format
    kv: str  # cache format
    nodes: tuple[str, ...]
    devices: int  # in use, all replicas
    links: tuple[str, ...]  # what ranks talk over: between devices, between nodes
    ranks: tuple[Rank, ...]
    layers: tuple[int, ...]  # of each stage
    speed: Speed  # of one replica at its share of the requests; `output` is of all replicas
    longest_context: int  # tokens, of so many requests as asked for
    most_requests: int  # of the context asked for
    power: Power
    launchable: bool  # whether `corral up` starts such a layout
    notes: tuple[str, ...] = ()


class Refusal(Value):
    """What was not considered, or did not fit, and why."""

    what: str
    why: str


class LinkCost(Value):
    """What another link between the machines would make of it: of the chosen layout, and which layout is best then."""

    link: str
    title: str
    decode: float  # tok/s of one stream of the chosen layout
    ttft: float  # seconds, of the chosen layout
    communication: float  # share of its step
    best_layout: str
    best_nodes: int
    best_decode: float


class LimitEffect(Value):
    """What a power limit of each device would make of the chosen layout."""

    limit: float  # watts a device
    decode: float  # tok/s
    prefill: float  # tok/s
    watts: float  # the cluster's at the wall while generating
    most_watts: float  # and the most, which is while reading prompts
    wh_per_1000: float


class Plan(Value):
    """The answer: ways to run the model here, best first, with reasons; or why none fits."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    schema_: Literal["corral.plan/1"] = Field(default=SCHEMA, alias="schema")
    model: str  # catalog id or name
    title: str  # for people
    parameters: int
    active: int  # parameters that one token uses
    source: str  # where the model's architecture was read
    cluster: str
    machines: str  # "8 x NVIDIA GB10"
    workload: Workload
    candidates: tuple[Candidate, ...]  # best first; empty when nothing fits
    considered: int  # layouts
    fitting: int
    why_not: str | None = None
    remedy: str | None = None
    advice: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    circuits: tuple[CircuitLoad, ...] = ()
    money: Money | None = None
    interconnect: tuple[LinkCost, ...] = ()
    limits: tuple[LimitEffect, ...] = ()
