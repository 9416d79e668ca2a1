"""Weights on disk: safetensors, with matrices as int8 rows and a scale each where size matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from helios_world.errors import PackError
from helios_world.snapshot import write_bytes

SCALE = ".int8_scale"


def save_weights(path: Path, weights: Mapping[str, Tensor], *, int8: bool = False) -> None:
    """Writes all of `weights` or nothing.

    Args:
        int8: keep tensors of two and more dimensions as int8 with one float32 scale per first index; about a
            quarter of the size, with a rounding error of at most 1/254 of the largest value in the row.
    """
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        weight = weight.detach().float().cpu().contiguous()
        if int8 and weight.ndim >= 2 and weight.shape[0] > 1:
            tensors[name], tensors[name + SCALE] = quantise(weight)
        else:
            tensors[name] = weight
    write_bytes(path, save(tensors))


def load_weights(path: Path) -> dict[str, Tensor]:
    """What `save_weights` wrote, as float32. PackError if the file is missing, truncated or damaged."""
    try:
        stored = load_file(path)
    except FileNotFoundError:
        raise PackError(f"{path} is missing") from None
    except (SafetensorError, OSError) as error:
        raise PackError(f"{path} is damaged or not safetensors ({error})") from None
    return {
        name: dequantise(tensor, stored[name + SCALE]) if name + SCALE in stored else tensor.float()
        for name, tensor in stored.items()
        if not name.endswith(SCALE)
    }


def load_into(model: nn.Module, path: Path) -> None:
    """Fills `model` from `path`. PackError names the first tensor that is missing, extra or mis-shaped."""
    weights = load_weights(path)
    check_fit(path, {name: weight.shape for name, weight in weights.items()}, model)
    model.load_state_dict(weights)


def check_fit(path: Path, found: Mapping[str, Sequence[int]], model: nn.Module) -> None:
    """PackError naming the first tensor, of those found at `path` by shape, that is missing, extra or mis-shaped."""
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise PackError(f"{path} lacks tensor {name}")
        if name not in wanted:
            raise PackError(f"{path} holds tensor {name}, which the network does not have")
        if tuple(found[name]) != tuple(wanted[name]):
            raise PackError(f"{path}: tensor {name} is {tuple(found[name])}: must be {tuple(wanted[name])}")


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 of the same shape and float32 scales, one per first index."""
    flat = weight.flatten(1)
    scale = flat.abs().amax(dim=1).clamp(min=1e-12) / 127
    return (flat / scale[:, None]).round().clamp(-127, 127).to(torch.int8).view(weight.shape), scale


def dequantise(values: Tensor, scale: Tensor) -> Tensor:
    """The inverse of `quantise`, up to rounding."""
    return values.float() * scale.view(-1, *(1 for _ in values.shape[1:]))
