"""UniPC (arXiv 2302.04867) for flows: order 2, B(h) = e^h - 1 ("bh2"), predicts the level's end ("predict x0").

While a level's end x is taken as constant, z moves on a straight line: z' = r z + (1 - r) x with r = sigma' / sigma.
UniPC moves so, too, towards an x corrected by how the predicted ends changed from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import expm1, log

from torch import Tensor

from helios_world.sampling.solvers import StepFn


def unipc(velocity: StepFn, start: Tensor, sigmas: Sequence[float]) -> Tensor:
    """The level's end. Sigmas lie between 0 and 1, but for the last one, 0; the first and last steps have order 1."""
    count = len(sigmas) - 1
    z, before = start, start
    ends: list[Tensor] = []  # the newest two predicted ends, newest first
    for step in range(count):
        end = z - sigmas[step] * velocity(z, step)
        if step:
            z = _towards(_corrected(end, ends, sigmas[: step + 1]), before, sigmas[step] / sigmas[step - 1])
        ends = [end, *ends[:1]]
        target = _predicted(ends, sigmas[step - 1 : step + 2]) if 0 < step < count - 1 else end
        before, z = z, _towards(target, z, sigmas[step + 1] / sigmas[step])
    return z


def _towards(target: Tensor, z: Tensor, ratio: float) -> Tensor:
    return ratio * z + (1 - ratio) * target


def _predicted(ends: Sequence[Tensor], sigmas: Sequence[float]) -> Tensor:
    """UniP: the end for the step from sigmas[1] to sigmas[2], by the ends at sigmas[1] and sigmas[0]."""
    before, now, following = (_log_snr(sigma) for sigma in sigmas)
    ratio = (before - now) / (following - now)
    return ends[0] + 0.5 * (ends[1] - ends[0]) / ratio


def _corrected(end: Tensor, ends: Sequence[Tensor], sigmas: Sequence[float]) -> Tensor:
    """UniC: the end for the step just made, from sigmas[-2] to sigmas[-1], now that the end at sigmas[-1] is known."""
    if len(ends) == 1:
        return ends[0] + 0.5 * (end - ends[0])
    before, last, now = (_log_snr(sigma) for sigma in sigmas[-3:])
    h = now - last
    ratio = (before - last) / h
    b = expm1(-h)
    b_1 = (b / -h - 1) / b  # h phi_2 / B(h) and 2 h^2 phi_3 / B(h): the right side of UniPC's linear system
    b_2 = 2 * ((b / -h - 1) / -h - 0.5) / b
    rho_1 = (b_1 - b_2) / (1 - ratio)
    rho_2 = b_1 - rho_1
    return ends[0] + rho_1 * (ends[1] - ends[0]) / ratio + rho_2 * (end - ends[0])


def _log_snr(sigma: float) -> float:
    return log((1 - sigma) / sigma)
