"""Noise levels of the pyramid: pure numbers.

Level s runs from `start` (noise and the upsampled coarser picture) to `end` (a cleaner picture of its own size).
Inside a level a local sigma runs from LOCAL_SIGMA to 0: z = sigma * start + (1 - sigma) * end.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

LOCAL_SIGMA = 0.999
STEPS = 1000  # of the discrete tables that the release was trained on


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of the pyramid.

    Attributes:
        factor: full size over this level's size.
        sigma_start, sigma_end: share of noise where the level starts and ends.
        alpha, beta: factors of the upsampled result before it and of the noise added to it.
        t_max, t_min: time steps told to the network at local sigma 1 and 0.
    """

    factor: int
    sigma_start: float
    sigma_end: float
    alpha: float
    beta: float
    t_max: float
    t_min: float

    def timestep(self, sigma: float) -> float:
        """Time step for a local sigma."""
        return self.t_min + sigma * (self.t_max - self.t_min)


def pyramid_levels(count: int, gamma: float = 1 / 3) -> list[Level]:
    """`count` levels, coarse to fine, with equal shares of the noise range.

    With count 3 these are the released numbers.
    """
    sigma = [LOCAL_SIGMA * (1 - i / STEPS) for i in range(STEPS)]
    cuts = [int(STEPS * s / count) for s in range(count + 1)]
    bounds = []
    for s, (low, high) in enumerate(pairwise(cuts)):
        clean = 1 - sigma[low]
        corrected = clean / (sqrt(1 + 1 / gamma) * (1 - clean) + clean) if s else clean
        bounds.append((1 - corrected, sigma[high] if high < STEPS else 0.0, clean))
    lengths = [start - end for start, end, _ in bounds]
    levels = []
    for s, (start, end, clean) in enumerate(bounds):
        r0, r1 = (sum(lengths[:k]) / sum(lengths) for k in (s, s + 1))
        t_max, t_end = _timestep(int(STEPS * r0)), _timestep(min(int(STEPS * r1), STEPS - 1))
        t_min = t_end + (t_max - t_end) / STEPS  # last entry of the discrete table, one short of its end
        alpha = 1 / (sqrt(1 + 1 / gamma) * (1 - clean) + clean) if s else 1.0
        beta = alpha * (1 - clean) / sqrt(gamma) if s else 0.0
        levels.append(Level(2 ** (count - 1 - s), start, end, alpha, beta, t_max, t_min))
    return levels


def local_sigmas(steps: int) -> list[float]:
    """Where `steps` Euler steps start, and the 0 where the last one ends."""
    return [LOCAL_SIGMA * (1 - i / steps) for i in range(steps)] + [0.0]


def _timestep(i: int) -> float:
    return LOCAL_SIGMA * (1 - i / STEPS) * STEPS
