"""llama.cpp behind the Engine protocol: per-rank commands for one node or several; starts nothing, reads no machine.

Two variants. `embedded`: xllamacpp, llama.cpp's server in a wheel, in a worker process on one node. `server`:
llama-server on the first node and, where there are more nodes, one RPC worker on each of the others.

llama.cpp's RPC has no authentication and no encryption: whoever reaches a worker's port can read and write its memory.
A worker therefore listens on its fabric address only, and every such launch carries a note that says so. It serves one
client at a time, and the server aborts when a worker is lost.
"""

from collections.abc import Mapping
from importlib.resources import files

from corral.engines.base import Api, Environment, LaunchSpec, Placement, PortOpen, Rank, Site, Symptom
from corral.engines.llamacpp import checks, versions
from corral.engines.llamacpp.checks import variant_of
from corral.engines.llamacpp.options import server_options, thread_options
from corral.engines.llamacpp.split import Split, device_indices, device_names, split_layers
from corral.engines.llamacpp.symptoms import SYMPTOMS

_VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES"}
_SCRIPT = "llamacpp_embedded.py"
RPC_NOTE = (
    "llama.cpp's RPC workers ask for no key: whoever reaches {where} can read and write the model's memory there,"
    " so keep that network closed."
)


class LlamaCpp:
    """llama.cpp, embedded or as a server with RPC workers."""

    name = "llamacpp"
    symptoms: tuple[Symptom, ...] = SYMPTOMS

    def check(self, placement: Placement) -> None:
        """Raise BadInput or DoesNotFit for what llama.cpp cannot do with this placement."""
        checks.check(placement)

    def environments(self, placement: Placement) -> Mapping[str, Environment]:
        """Give what must stand on each node: xllamacpp's wheel, or programs built from source."""
        if variant_of(placement) == "embedded":
            return {placement.nodes[0]: versions.embedded()}
        return dict.fromkeys(placement.nodes, versions.build(placement.accelerator))

    def model_readers(self, placement: Placement) -> tuple[str, ...]:
        """The nodes that read the model's files: the first alone: RPC workers are sent their layers."""
        return placement.nodes[:1]

    def ports(self, placement: Placement) -> Mapping[str, tuple[str, ...]]:
        """Name the ports: the API's on the first node, an RPC worker's on each other."""
        head, *others = placement.nodes
        return {head: ("api",)} | dict.fromkeys(others, ("rpc",))

    def launch(self, placement: Placement, sites: Mapping[str, Site]) -> LaunchSpec:
        """Give every rank's command; the API answers on the first node's loopback."""
        head, *others = placement.nodes
        api = Api(node=head, port=sites[head].ports["api"], embeddings=placement.model.embeds)
        if variant_of(placement) == "embedded":
            return LaunchSpec(ranks=(_embedded(placement, sites[head]),), api=api)
        workers = tuple(_worker(placement, sites[node], number) for number, node in enumerate(others, 1))
        where = ", ".join(f"{sites[node].address}:{sites[node].ports['rpc']}" for node in others)
        notes = (RPC_NOTE.format(where=where),) if others else ()
        return LaunchSpec(ranks=(*workers, _server(placement, sites, workers)), api=api, notes=notes)


def _embedded(placement: Placement, site: Site) -> Rank:
    script = files("corral.launcher.onnode").joinpath(_SCRIPT).read_text(encoding="utf-8")
    devices = () if placement.accelerator == "cpu" else ("--n-gpu-layers", "all")
    options = (*server_options(placement, site), *devices)
    return Rank(
        name="server",
        node=site.node,
        argv=(f"{site.environment}/bin/python", "-u", f"{site.scratch}/{_SCRIPT}", *options),
        env=_env(site),
        ready=PortOpen(address="127.0.0.1", port=site.ports["api"]),
        files={_SCRIPT: script},
    )


def _server(placement: Placement, sites: Mapping[str, Site], workers: tuple[Rank, ...]) -> Rank:
    site = sites[placement.nodes[0]]
    options = (*server_options(placement, site), *_split_options(placement, sites))
    return Rank(
        name="server",
        node=site.node,
        argv=(f"{site.environment}/bin/llama-server", *options),
        env={**_env(site), **_visible(placement, site.node)},
        after=tuple(worker.name for worker in workers),
        ready=PortOpen(address="127.0.0.1", port=site.ports["api"]),
    )


def _worker(placement: Placement, site: Site, number: int) -> Rank:
    address = ("--host", site.address, "--port", str(site.ports["rpc"]))
    devices = ("--device", ",".join(device_names(placement, site.node)))
    return Rank(
        name=f"rpc-{number}",
        node=site.node,
        argv=(f"{site.environment}/bin/ggml-rpc-server", *address, *devices, *thread_options(placement)),
        env={**_env(site), **_visible(placement, site.node)},
        ready=PortOpen(address=site.address, port=site.ports["rpc"]),
    )


def _split_options(placement: Placement, sites: Mapping[str, Site]) -> tuple[str, ...]:
    """Say which device holds which layers, by counts, so that llama.cpp has nothing left to choose."""
    split = split_layers(placement)
    local = () if placement.accelerator == "cpu" else split.local
    shares = [(f"RPC{number}", part.layers) for number, part in enumerate(split.remote)]
    shares += [(part.device, part.layers) for part in local]
    if not shares:
        return ("--device", "none")  # the CPU alone
    # llama.cpp counts the output layer as one more, of the last device.
    name, layers = shares.pop()
    shares.append((name, layers + 1))
    return (
        *_rpc_options(split, sites),
        *("--device", ",".join(name for name, _ in shares)),
        *("--n-gpu-layers", str(sum(layers for _, layers in shares))),
        *("--split-mode", "row" if placement.layout.tp > 1 else "layer"),
        *("--tensor-split", ",".join(str(layers) for _, layers in shares)),
        *(() if local else _OUTPUT_ON_HEAD),
    )


# On a head without accelerator the last layers are remote. The output layer is kept on the head all the same: a hidden
# state crosses the network in place of the logits of the whole vocabulary (128 times larger in a typical model).
_OUTPUT_ON_HEAD = ("--override-tensor", r"^(output|token_embd)\.weight$=CPU")


def _rpc_options(split: Split, sites: Mapping[str, Site]) -> tuple[str, ...]:
    if not split.remote:
        return ()
    return ("--rpc", ",".join(f"{sites[node].address}:{sites[node].ports['rpc']}" for node in split.remote_nodes))


def _env(site: Site) -> dict[str, str]:
    """Keep llama.cpp's own files in the scratch folder; an abort must not wait for a debugger's backtrace."""
    return {"LLAMA_CACHE": site.scratch, "GGML_NO_BACKTRACE": "1"}


def _visible(placement: Placement, node: str) -> dict[str, str]:
    """Hide the devices that the placement does not use; numbers are nvidia-smi's, which orders by PCI bus."""
    if placement.accelerator not in _VISIBLE:
        return {}
    indices = ",".join(str(index) for index in device_indices(placement, node))
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if placement.accelerator == "cuda" else {}
    return {_VISIBLE[placement.accelerator]: indices, **order}
