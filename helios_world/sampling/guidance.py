"""Classifier-free guidance: one velocity from a conditional and an unconditional one.

Shapes: B batch, C latent channels, T latent frames, H W latent size.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from helios_world.config import SamplerConfig

VelocityFn = Callable[[Tensor, float], Tensor]  # (noisy chunk, time step) -> velocity


def guided_velocity(conditional: VelocityFn, unconditional: VelocityFn | None, sampler: SamplerConfig) -> VelocityFn:
    """What the solver follows, in float32. `unconditional` is not called where the sampler does not guide."""
    if not sampler.guided:
        return lambda z, timestep: conditional(z, timestep).float()
    assert unconditional is not None, f"guidance_scale {sampler.guidance_scale} needs an unconditional velocity"

    def velocity(z: Tensor, timestep: float) -> Tensor:
        v, u = conditional(z, timestep).float(), unconditional(z, timestep).float()
        return guide(v, projection_scale(v, u) * u if sampler.cfg_zero else u, sampler.guidance_scale)

    return velocity


def guide(conditional_BCTHW: Tensor, unconditional_BCTHW: Tensor, scale: float) -> Tensor:
    """u + scale (v - u)."""
    return unconditional_BCTHW + scale * (conditional_BCTHW - unconditional_BCTHW)


def projection_scale(conditional_BCTHW: Tensor, unconditional_BCTHW: Tensor) -> Tensor:
    """<v, u> / |u|^2 per row, (B, 1, 1, 1, 1): the scale that brings u nearest to v (CFG-Zero*, arXiv 2503.18886)."""
    v, u = conditional_BCTHW.flatten(1), unconditional_BCTHW.flatten(1)
    scale = (v * u).sum(dim=1) / (u.square().sum(dim=1) + 1e-8)
    return scale.view(-1, *(1 for _ in conditional_BCTHW.shape[1:]))


def zero_init_steps(sampler: SamplerConfig) -> int:
    """How many steps of the coarsest level take a velocity of 0, the network being worse than that so near to noise."""
    return sampler.zero_steps if sampler.guided and sampler.cfg_zero else 0
