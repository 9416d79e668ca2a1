"""The solvers of one level without memory: Euler, and the re-noising of distilled networks (DMD).

A solver takes `velocity(z, step)`, the level's start and its sigmas, and returns the level's end. The last sigma is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

StepFn = Callable[[Tensor, int], Tensor]  # (noisy chunk, index of the denoise step) -> float32 velocity


def euler(velocity: StepFn, start: Tensor, sigmas: Sequence[float]) -> Tensor:
    """z' = z + (sigma' - sigma) v."""
    z = start
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        z = z + (following - sigma) * velocity(z, step)
    return z


def dmd(velocity: StepFn, start: Tensor, sigmas: Sequence[float]) -> Tensor:
    """x = z - sigma v, z' = (1 - sigma') x + sigma' start: noise again, but the level's own, so that none is drawn.

    Both in float64, rounded in between, as the public scheduler does.
    """
    z = start
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        end = (z.double() - sigma * velocity(z, step).double()).to(z.dtype)
        z = ((1 - following) * end.double() + following * start.double()).to(z.dtype)
    return z
