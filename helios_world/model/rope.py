"""Rotary positions in time, height and width; coarse tokens carry the average of what they cover.

Shapes: N tokens, D head width. A table is (cos, sin), each (N, D/2) float32, one column per rotated pair.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Table = tuple[Tensor, Tensor]


@lru_cache(maxsize=64)
def rope_table(
    frames: tuple[int, ...],
    grid: tuple[int, int],
    dims: tuple[int, int, int],
    theta: float,
    pool: tuple[int, int, int],
    device: torch.device,
) -> Table:
    """Positions of a block of tokens, one per frame and grid cell, averaged over `pool` (time, height, width).

    The averages are taken on cos and sin themselves, which damps what a coarse token cannot tell.
    """
    with torch.inference_mode(False):  # a table made while playing must also serve a backward pass
        sizes = (len(frames), *grid)
        positions = (torch.tensor(frames, device=device), *(torch.arange(n, device=device) for n in grid))
        angles = []
        for axis, (position, dim) in enumerate(zip(positions, dims, strict=True)):
            frequencies = theta ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
            shape = [1, 1, 1, dim // 2]
            shape[axis] = -1
            angles.append((position.float()[:, None] * frequencies).view(shape).expand(*sizes, -1))
        angle_THWF = torch.cat(angles, dim=-1)
        return _pooled(angle_THWF.cos(), pool), _pooled(angle_THWF.sin(), pool)


def apply_rope(x_BNhD: Tensor, table: Table) -> Tensor:
    """Rotates neighbouring pairs (x_2i, x_2i+1) in float32; the result has the dtype of x."""
    cos, sin = (part[None, :, None, :] for part in table)
    even, odd = x_BNhD.float().unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return rotated.flatten(-2).to(x_BNhD.dtype)


def join(tables: list[Table]) -> Table:
    """Tables of consecutive groups of tokens as one."""
    return torch.cat([cos for cos, _ in tables]), torch.cat([sin for _, sin in tables])


def _pooled(x_THWF: Tensor, pool: tuple[int, int, int]) -> Tensor:
    if pool != (1, 1, 1):
        x = pad_to_multiple(x_THWF.permute(3, 0, 1, 2)[None], pool)
        x_THWF = F.avg_pool3d(x, pool)[0].permute(1, 2, 3, 0)
    return x_THWF.reshape(-1, x_THWF.shape[-1])


def pad_to_multiple(x_BCTHW: Tensor, kernel: tuple[int, int, int]) -> Tensor:
    """Repeats the last row, column and frame until every size is a multiple of `kernel`."""
    t, h, w = (-size % k for size, k in zip(x_BCTHW.shape[-3:], kernel, strict=True))
    return F.pad(x_BCTHW, (0, w, 0, h, 0, t), mode="replicate") if t or h or w else x_BCTHW
