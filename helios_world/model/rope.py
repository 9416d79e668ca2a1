"""Rotary positions in time, height and width; coarse tokens carry the average of what they cover.

Shapes: B batch, N tokens, D head width. A table is (cos, sin), each float32, one column per rotated pair: (N, D/2) for
all rows of a batch, or (B, N, D/2) where they differ.
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
    fineness: tuple[int, int] = (1, 1),
) -> Table:
    """Positions of a block of tokens, one per frame and grid cell, averaged over `pool` (time, height, width).

    The averages are taken on cos and sin themselves, which damps what a coarse token cannot tell.

    Args:
        fineness: grid cells in a step of one, along height and width.
    """
    with torch.inference_mode(False):  # a table made while playing must also serve a backward pass
        sizes = (len(frames), *grid)
        cells = (torch.arange(n, device=device) / fine for n, fine in zip(grid, fineness, strict=True))
        positions = (torch.tensor(frames, device=device), *cells)
        angles = []
        for axis, (position, dim) in enumerate(zip(positions, dims, strict=True)):
            shape = [1, 1, 1, dim // 2]
            shape[axis] = -1
            angles.append(_angles(position, dim, theta).view(shape).expand(*sizes, -1))
        angle_THWF = torch.cat(angles, dim=-1)
        return _pooled(angle_THWF.cos(), pool), _pooled(angle_THWF.sin(), pool)


def at_frames(table: Table, frame_B: Tensor, dim: int, theta: float) -> Table:
    """A table of tokens at one frame, at another frame in each row: (B, N, D/2).

    Args:
        frame_B: may be negative.
        dim: of the time axis, which comes first.
    """
    angle_BNF = _angles(frame_B, dim, theta)[:, None].expand(-1, len(table[0]), -1)
    cos, sin = (
        torch.cat([time, part[:, dim // 2 :].expand(len(frame_B), -1, -1)], dim=-1)
        for time, part in zip((angle_BNF.cos(), angle_BNF.sin()), table, strict=True)
    )
    return cos, sin


def apply_rope(x_BNhD: Tensor, table: Table) -> Tensor:
    """Rotates neighbouring pairs (x_2i, x_2i+1) in float32; the result has the dtype of x."""
    cos, sin = (part.unsqueeze(-2) for part in table)
    even, odd = x_BNhD.float().unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return rotated.flatten(-2).to(x_BNhD.dtype)


def join(tables: list[Table]) -> Table:
    """Tables of consecutive groups of tokens as one; by row, if one of them is."""
    rows = next((cos.shape[:1] for cos, _ in tables if cos.ndim == 3), ())
    cos, sin = (
        torch.cat([part.expand(*rows, -1, -1) for part in parts], dim=-2) for parts in zip(*tables, strict=True)
    )
    return cos, sin


def _angles(position_P: Tensor, dim: int, theta: float) -> Tensor:
    """(P, dim/2): of each pair that tells of an axis, at each position on it."""
    frequencies = theta ** (-torch.arange(0, dim, 2, device=position_P.device, dtype=torch.float32) / dim)
    return position_P.float()[:, None] * frequencies


def _pooled(x_THWF: Tensor, pool: tuple[int, int, int]) -> Tensor:
    if pool != (1, 1, 1) and len(x_THWF):
        x = pad_to_multiple(x_THWF.permute(3, 0, 1, 2)[None], pool)
        x_THWF = F.avg_pool3d(x, pool)[0].permute(1, 2, 3, 0)
    return x_THWF.reshape(-1, x_THWF.shape[-1])


def pad_to_multiple(x_BCTHW: Tensor, kernel: tuple[int, int, int]) -> Tensor:
    """Repeats the last row, column and frame until every size is a multiple of `kernel`. No frames stay none."""
    t, h, w = (-size % k for size, k in zip(x_BCTHW.shape[-3:], kernel, strict=True))
    mode = "replicate" if x_BCTHW.shape[-3] else "constant"  # where there is nothing to repeat
    return F.pad(x_BCTHW, (0, w, 0, h, 0, t), mode=mode) if t or h or w else x_BCTHW
