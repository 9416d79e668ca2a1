"""Names of number formats and devices, as users give them."""

from __future__ import annotations

import torch

from helios_world.errors import UserError
from helios_world.world import Frames

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """The device of this name; for "auto" a GPU where torch sees one. UserError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}: choose from auto, cpu, cuda or cuda:NUMBER") from None
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise UserError(f"device {name!r} is not there: this torch sees {torch.cuda.device_count()} GPUs")
    return device


def quick_dtype(device: torch.device) -> str:
    """The number format, of DTYPES, that suits a device: bfloat16 on a GPU; float32 on a CPU, since many have no
    bfloat16 units and convolve thirty times slower with it."""
    return "float32" if device.type == "cpu" else "bfloat16"


def mixed_precision(device: torch.device) -> torch.autocast:
    """A context in which float32 networks multiply in `quick_dtype(device)`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=quick_dtype(device) == "bfloat16")


def to_host(frames: torch.Tensor) -> Frames:
    """`frames` as an array in this process's memory."""
    return frames.cpu().numpy()


def peak_gib(device: torch.device) -> float | None:
    """GiB that tensors of this process ever held on a GPU at once; None for the CPU."""
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else None
