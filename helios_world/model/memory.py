"""The past as the network sees it: an anchor, and recent latents kept finer the newer they are.

Shapes: B batch, C latent channels, T latent frames, H W latent size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Memory(NamedTuple):
    """Clean latents by age, all at full resolution; patchified 4x, 2x and 1x coarse by the network."""

    long: Tensor  # (B, C, 16, H, W)
    mid: Tensor  # (B, C, 2, H, W)
    short: Tensor  # (B, C, 1 + recent, H, W), the anchor first
    anchor_age_B: Tensor | None = None  # latent frames from the anchor to the chunk; for absolute positions alone


class FrameIndices(NamedTuple):
    """Relative positions in time, the same for every chunk of a world of any length (Relative RoPE).

    With absolute positions the anchor stands elsewhere, as far before the noisy frames as it is old.
    """

    long: tuple[int, ...]
    mid: tuple[int, ...]
    short: tuple[int, ...]
    noisy: tuple[int, ...]


def split_memory(
    history_BCTHW: Tensor, anchor_BC1HW: Tensor, sizes: tuple[int, int, int], anchor_age_B: Tensor | None = None
) -> Memory:
    """The newest sum(sizes) frames of a history, oldest first, as long, mid and short memory; sizes may be 0."""
    long, mid, recent = history_BCTHW[:, :, -sum(sizes) :].split(sizes, dim=2)
    return Memory(long, mid, torch.cat([anchor_BC1HW, recent], dim=2), anchor_age_B)


def frame_indices(sizes: tuple[int, int, int], noisy: int) -> FrameIndices:
    """range(1 + long + mid + recent + noisy) cut in that order, the anchor at 0."""
    ends = [1, *(1 + sum(sizes[: i + 1]) for i in range(3))]
    long, mid, recent = (tuple(range(low, high)) for low, high in pairwise(ends))
    return FrameIndices(long, mid, (0, *recent), tuple(range(ends[-1], ends[-1] + noisy)))
