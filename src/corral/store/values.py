"""What is remembered of a deployment: what was asked, what is wanted, how it stands; knows no database."""

from typing import Final, Literal

from pydantic import Field

from corral.cluster.values import Cluster
from corral.engines.base import Api
from corral.values import Value

Desired = Literal["running", "stopped"]
State = Literal["queued", "launching", "ready", "stopping", "stopped", "failed"]

# What may follow what. A deployment that ended may be asked for again.
TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    "queued": frozenset({"launching", "stopping", "stopped", "failed"}),
    "launching": frozenset({"ready", "stopping", "failed"}),
    "ready": frozenset({"launching", "stopping", "failed"}),
    "stopping": frozenset({"stopped", "failed"}),
    "stopped": frozenset({"queued", "stopping"}),
    "failed": frozenset({"queued", "stopping", "stopped"}),
}
LIVE: Final[frozenset[State]] = frozenset({"queued", "launching", "ready", "stopping"})


class DeploymentRequest(Value):
    """One model that somebody wants served, as `corral up` was asked: one replica of it."""

    name: str  # unique
    serves: str = ""  # the model's name in the API; empty: `name`
    model: str = ""  # a path (absolute), a Hub id, or empty: Corral's choice
    cluster: Cluster
    engine: Literal["llamacpp", "vllm"] | None = None
    variant: str = ""
    layout: str | None = None  # "tp2", "tp2xpp2"; None: the planner's choice
    context: int | None = None
    concurrency: int = 4
    dtype: str | None = None
    threads: int | None = None

    @property
    def public(self) -> str:
        """The model's name in the API, which its replicas share."""
        return self.serves or self.name

    def replicas(self, count: int) -> tuple["DeploymentRequest", ...]:
        """So many of the same: the first as it is, then "name~2" and on."""
        more = (
            self.model_copy(update={"name": f"{self.name}~{at}", "serves": self.public}) for at in range(2, count + 1)
        )
        return (self, *more)


class Offered(Value):
    """A model that can be asked for without being loaded: what is launched then, and when it comes and goes."""

    request: DeploymentRequest
    replicas: int = 1
    aliases: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()  # names of other offers
    ttl: float | None = None  # seconds of idleness after which it is unloaded
    pinned: bool = False
    min_loaded: int = 0  # these two are of the whole cluster file
    min_stay: float = 10.0  # seconds

    @property
    def name(self) -> str:
        """The model's name in the API."""
        return self.request.public

    @property
    def requests(self) -> tuple[DeploymentRequest, ...]:
        """One for each replica."""
        return self.request.replicas(self.replicas)


class Holding(Value):
    """Memory that a deployment was planned to take of a machine."""

    machine: str  # as `cluster.topology.machine_of` names it
    device: int  # the machine's index of the accelerator; -1: main memory
    bytes: int


class RankPlace(Value):
    """Where a rank of a deployment runs."""

    name: str
    node: str
    run: str  # the folder on the node with its records
    scratch: str  # its private folder on the node


class Failure(Value):
    """Why a deployment failed: the sentences and the exit status that the command ends with."""

    cause: str
    remedy: str
    code: int
    rank: str = ""
    line: str = ""  # the log line that names the cause


class Detail(Value):
    """How a deployment stands, beyond its state."""

    identity: str = ""  # new for each launch: ranks of an earlier one are never mistaken for this one's
    model: str = ""
    engine: str = ""
    layout: str = ""
    nodes: tuple[str, ...] = ()
    ranks: tuple[RankPlace, ...] = ()
    api: Api | None = None
    holds: tuple[Holding, ...] = ()  # from the moment in which it is placed until its end
    concurrency: int = 0  # requests that it computes at once; 0: not known
    prefill_rate: float = 0.0  # predicted, tokens a second; 0: not known
    decode_rate: float = 0.0  # predicted, of one stream
    load_seconds: float | None = None  # that the launch took, all stages
    context: int = 0
    weights_bytes: int = 0
    demo: bool = False
    launch_started: float | None = None  # seconds since the epoch
    ready_at: float | None = None
    first_token_seconds: float | None = None  # of the readiness probe
    tokens_per_second: float | None = None  # of the readiness probe: a single short stream
    rss: dict[str, int] = Field(default_factory=dict)  # bytes by rank, as last seen
    failure: Failure | None = None
    left: tuple[str, ...] = ()  # nodes where its end could not be seen to


class Deployment(Value):
    """A deployment as the database knows it."""

    request: DeploymentRequest
    desired: Desired
    state: State
    detail: Detail
    created: float  # seconds since the epoch
    changed: float

    @property
    def name(self) -> str:
        """The deployment's name: unique."""
        return self.request.name

    @property
    def serves(self) -> str:
        """The model's name in the API, which its replicas share."""
        return self.request.public


class Progress(Value):
    """How far one thing of one stage of a launch has come."""

    stage: str
    subject: str  # a node or a rank; empty: the stage as a whole
    fraction: float | None  # None: busy, of unknown length
    text: str


class Event(Value):
    """Something that happened, with its reason."""

    at: float  # seconds since the epoch
    deployment: str | None
    kind: str
    text: str
