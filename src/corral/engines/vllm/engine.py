"""vLLM as an engine: joins the checks, environments, ports and ranks of its two modes; knows no launcher."""

from collections.abc import Mapping

from corral.engines.base import Api, Environment, LaunchSpec, Placement, Site, Symptom
from corral.engines.vllm import mp, on_ray
from corral.engines.vllm.checks import check
from corral.engines.vllm.environments import environment
from corral.engines.vllm.symptoms import SYMPTOMS
from corral.engines.vllm.variant import variant_of

# PyTorch's TCPStore, where ranks meet, takes a host name to connect to and none to listen on; Ray's own servers do the
# same unless the node's address is loopback. Neither has an option against it.
STORE_NOTE = (
    "The store where vLLM's ranks meet listens on every address of {head} and asks for no key: whoever reaches it can"
    " break into the ranks, so keep that machine behind a firewall or on networks that you trust."
)
RAY_NOTE = "Ray's servers listen on every address of {nodes}; they ask for this deployment's token and do not encrypt."


class Vllm:
    """The engine `vllm`, in the variants `ray` (a Ray cluster of the placement's nodes) and `mp` (without Ray)."""

    name: str = "vllm"
    symptoms: tuple[Symptom, ...] = SYMPTOMS

    def check(self, placement: Placement) -> None:
        """Raise BadInput or DoesNotFit for what vLLM cannot do with this placement."""
        check(placement)

    def environments(self, placement: Placement) -> Mapping[str, Environment]:
        """The same environment on every node: ranks of different versions do not understand one another."""
        return dict.fromkeys(placement.nodes, environment(placement.accelerator))

    def model_readers(self, placement: Placement) -> tuple[str, ...]:
        """Every node: each rank reads its own part of every file."""
        return placement.nodes

    def ports(self, placement: Placement) -> Mapping[str, tuple[str, ...]]:
        """Every port that is bound, by node."""
        return on_ray.ports(placement) if variant_of(placement) == "ray" else mp.ports(placement)

    def launch(self, placement: Placement, sites: Mapping[str, Site]) -> LaunchSpec:
        """Give every rank's command; BadInput for a scratch folder whose path is too long for sockets."""
        ranks = on_ray.ranks(placement, sites) if variant_of(placement) == "ray" else mp.ranks(placement, sites)
        head = placement.seats[0].node
        return LaunchSpec(
            ranks=ranks,
            api=Api(node=head, port=sites[head].ports["api"], embeddings=placement.model.embeds, keep_alive=True),
            notes=_notes(placement),
        )


def _notes(placement: Placement) -> tuple[str, ...]:
    """What listens beyond the fabric; on one node without Ray the ranks meet in a file, and nothing does."""
    store = STORE_NOTE.format(head=placement.nodes[0])
    if variant_of(placement) == "ray":
        return (store, RAY_NOTE.format(nodes=", ".join(placement.nodes)))
    return (store,) if len(placement.nodes) > 1 else ()
