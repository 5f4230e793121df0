"""A CPU communicator that uses shared memory only among ranks of one host; knows nothing of how they were started."""

from pathlib import Path

import torch
from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator


def shared_memory_identity() -> str:
    """Name the shared memory that this process sees: equal names are one memory.

    The boot id tells machines apart; the device number of the mounted /dev/shm tells containers and mount namespaces
    of one machine apart, because the kernel gives every tmpfs a number of its own.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    machine = boot.read_text().strip() if boot.exists() else "unknown"
    memory = Path("/dev/shm")  # noqa: S108 - the memory's well-known place; nothing is written there
    return f"{machine}:{memory.stat().st_dev if memory.exists() else 'none'}"


class SeveralHostsCommunicator(CpuCommunicator):
    """vLLM's CPU communicator, which in 0.32 takes ranks for neighbours when they agree on a port number.

    Ranks on different hosts agree on it too, and would then wait for one another in memories that are not shared.
    """

    def _all_group_ranks_share_shm_group_name(self) -> bool:
        """Say whether every rank of the group sees one shared memory and agrees on the group's name in it."""
        identities = [""] * self.world_size
        torch.distributed.all_gather_object(identities, shared_memory_identity(), group=self.device_group)
        # Every rank must take part in the second exchange, whatever the first one said.
        same_name = super()._all_group_ranks_share_shm_group_name()
        return same_name and len(set(identities)) == 1
