"""What a cluster is made of: nodes, devices, NICs, links, storage, circuits; knows no process and no network.

Quantities are plain numbers here (see `quantities`): memory in bytes, speeds in bytes a second, power in watts.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from corral.cluster.endpoint import EndpointSettings
from corral.cluster.problems import find_problem
from corral.cluster.quantities import Amps, Bytes, Name, Operations, Rate, Seconds, Text, Volts, Watts
from corral.cluster.served import Residency, ServedModel
from corral.values import Value

SCHEMA = "corral.cluster/1"
NumberFormat = Literal["fp32", "fp16", "bf16", "fp8", "fp4", "int8", "int4"]
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Ssh(Value):
    """How a node is reached over SSH; what is left out comes from the user's own SSH configuration."""

    user: Text | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    key: Text | None = None  # path of a private key file on this machine
    known_hosts: Text | None = None  # path of a known-hosts file on this machine
    jump: Text | None = None  # [user@]host[:port] of a machine to go through


class Cpu(Value):
    """A node's processors, taken together."""

    model: Text = "unknown"
    cores: Annotated[int, Field(ge=1, le=65536)]  # that Corral may use there (a cgroup's limit counts)
    architecture: Text = "unknown"  # as uname says: "x86_64", "aarch64", "arm64"
    bandwidth: Rate | None = None  # of main memory, for models that run on the CPU


class Device(Value):
    """`count` equal accelerators of one node. `memory` is that of one; unified memory is shared with the CPU.

    Several entries are several groups: what `link` joins is one group only. `bandwidth`, `flops` and `power_idle` are
    for a device that the catalog does not know, or knows wrongly: what stands here counts for more.
    """

    name: Text  # the catalog's id or the maker's name: "gb10", "NVIDIA GB10"
    vendor: Literal["nvidia", "amd", "apple", "intel"]
    count: Annotated[int, Field(ge=1, le=1024)] = 1
    memory: Bytes
    unified: bool = False
    power_limit: Watts | None = None  # of one
    link: Text | None = None  # what joins them to each other: "nvlink-2", "pcie-3x16"
    capability: Text | None = None  # NVIDIA compute capability "12.1", AMD target "gfx1151"
    driver: Text | None = None
    bandwidth: Rate | None = None  # of its memory
    flops: Mapping[NumberFormat, Operations] = {}  # dense, by the number format that it computes in
    power_idle: Watts | None = None


class Nic(Value):
    """A network interface. `speed` is what it negotiated, not what it could."""

    name: Text
    addresses: tuple[Text, ...] = ()  # with prefix length: "10.0.0.1/24"
    speed: Rate | None = None
    mtu: Annotated[int, Field(ge=68, le=2**31 - 1)] | None = None
    mac: Text | None = None
    driver: Text | None = None
    rdma: Text | None = None  # the RDMA device on it: "mlx5_0", "rocep1s0f0"


class Disk(Value):
    """A folder of a node and what is free where it lies, when it was last looked at."""

    path: Text
    size: Bytes | None = None
    free: Bytes | None = None


class EngineSetting(Value):
    """What the user decided about one engine on one node."""

    environment: Text | None = None  # an existing environment: a folder with bin/ in it; used as it is, never changed


class Node(Value):
    """A machine. `address` is where Corral manages it, `fabric` where ranks reach each other (default: address).

    `address: local`, or a loopback address without an `ssh` section, is the machine that Corral itself runs on.
    """

    name: Name
    address: Text = "local"
    fabric: Text | None = None
    ssh: Ssh | None = None
    cpu: Cpu | None = None
    memory: Bytes | None = None
    power_base: Watts | None = None  # drawn at the wall by all but the devices, while they work
    devices: tuple[Device, ...] = ()
    nics: tuple[Nic, ...] = ()
    disks: tuple[Disk, ...] = ()
    python: Text | None = None  # path or name of the Python that builds environments; default: python3
    runtime: Literal["podman", "docker"] | None = None  # container runtime
    cache: Text | None = None  # folder for environments and model files; default: ~/.cache/corral
    engines: Mapping[Name, EngineSetting] = {}

    @property
    def is_local(self) -> bool:
        """Whether this is the machine that Corral itself runs on, reached without SSH."""
        return self.address == "local" or (self.address in LOOPBACK and self.ssh is None)

    @property
    def fabric_address(self) -> str:
        """Where ranks on other nodes reach ranks on this one; 127.0.0.1 for a local node that names none."""
        return self.fabric or ("127.0.0.1" if self.is_local else self.address)


class Link(Value):
    """What joins nodes: a cable between two, or a switch among several.

    `kind` is a link of the catalog; `bandwidth` (one direction, one port) and `latency` are measured values, which
    count for more. One of `kind` and `bandwidth` is there.
    """

    between: Annotated[tuple[Name, ...], Field(min_length=2)]
    switch: Text | None = None
    kind: Text | None = None
    bandwidth: Rate | None = None
    latency: Seconds | None = None


class Storage(Value):
    """A folder that holds models: on the nodes' own disks, or one NFS folder that they all see at the same path."""

    name: Name
    path: Text
    kind: Literal["local", "nfs"] = "local"
    nodes: Annotated[tuple[Name, ...], Field(min_length=1)]
    size: Bytes | None = None
    free: Bytes | None = None
    bandwidth: Rate | None = None  # reading


class Circuit(Value):
    """A breaker and the nodes behind it."""

    name: Name
    volts: Volts
    amps: Amps  # that the breaker is rated for
    nodes: Annotated[tuple[Name, ...], Field(min_length=1)]


class Price(Value):
    """An amount of money in a currency (ISO 4217)."""

    amount: Annotated[float, Field(ge=0, le=1e6)]
    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")] = "USD"


class Cluster(Value):
    """The machines that Corral may use, what joins, feeds and stores for them, and which models they serve."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    schema_: Literal["corral.cluster/1"] = Field(default=SCHEMA, alias="schema")
    name: Name = "corral"
    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]
    links: tuple[Link, ...] = ()
    storage: tuple[Storage, ...] = ()
    circuits: tuple[Circuit, ...] = ()
    price_per_kwh: Price | None = None
    models: tuple[ServedModel, ...] = ()
    residency: Residency = Residency()
    gateway: EndpointSettings = EndpointSettings()

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        problem = find_problem(self)
        if problem is not None:
            # The place travels in the context, so that a file's reader can name the line.
            raise PydanticCustomError("cluster", "{what}", {"what": problem.what, "place": problem.place})
        return self

    def machines(self) -> "Cluster":
        """The same machines without the models that they serve, and how."""
        return self.model_copy(update={"models": (), "residency": Residency(), "gateway": EndpointSettings()})

    def node(self, name: str) -> Node:
        """The node of this name; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)
