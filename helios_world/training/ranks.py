"""Several GPUs as one trainer: processes that torchrun starts, each with its own data, averaging their gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

# Its functions take group.WORLD as a default: imported while a group is open (by any optimiser) they would keep it, and
# its threads then outlive the interpreter and abort the process (pytorch#190489).
import torch.distributed.nn
from torch import Tensor


@dataclass(frozen=True)
class Rank:
    """This process among those that train together; alone it is rank 0 of 1.

    Attributes:
        index, count: number of this process, and of all.
        device: what this process computes on.
    """

    index: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes files and shows progress."""
        return self.index == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its mean over all ranks, in one message."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def agree(self, value: float) -> float:
        """Rank 0's value, on every rank. Waits for the ranks, not for their devices."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)


@contextmanager
def joined(device: str | None) -> Iterator[Rank]:
    """This process's rank, from torchrun's environment variables; without them, alone.

    Args:
        device: "cpu" or "cuda"; None takes a GPU where there is one.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if "RANK" not in os.environ:
        yield Rank(0, 1, torch.device(kind))
        return
    own = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(own)
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo")
    rank = Rank(dist.get_rank(), dist.get_world_size(), own)
    try:
        yield rank
        rank.average([torch.zeros(1)])  # waits for all: who leaves early breaks the line of those that still write
    finally:
        dist.destroy_process_group()
