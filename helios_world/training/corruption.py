"""Making a clean past look like a generated one: frame-aware corruption and dropout of history.

Shapes: B batch, C latent channels, N latent frames, h w latent size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helios_world.sampling.pyramid import double, halve

CLEAN, NOISE, BLUR, EXPOSURE = 0.6, 0.2, 0.1, 0.1  # shares of latent frames
MAX_SIGMA = 0.35
DROPPED = 0.15  # share of samples whose older history is blanked


def corrupt(x_BCNhw: Tensor, generator: torch.Generator) -> Tensor:
    """Each latent frame on its own: left clean, noised, blurred or badly exposed. Blank frames stay blank."""
    b, c, n = x_BCNhw.shape[:3]

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(b, channels, n, 1, 1, device=x_BCNhw.device, generator=generator)

    kind, sigma = uniform(0.0, 1.0), uniform(0.0, MAX_SIGMA)
    noise = torch.randn(x_BCNhw.shape, device=x_BCNhw.device, generator=generator)
    noised = (1 - sigma) * x_BCNhw + sigma * noise
    exposed = x_BCNhw * uniform(0.8, 1.2) + uniform(-0.2, 0.2, c)
    corrupted = torch.where(kind < CLEAN, x_BCNhw, noised)
    corrupted = torch.where(kind < CLEAN + NOISE, corrupted, double(halve(x_BCNhw)))
    corrupted = torch.where(kind < CLEAN + NOISE + BLUR, corrupted, exposed)
    return corrupted * (x_BCNhw != 0).any(dim=(1, 3, 4), keepdim=True)


def drop_history(x_BCNhw: Tensor, generator: torch.Generator) -> Tensor:
    """In a share of samples only the newest few frames are left, as after a start from an image or a short video."""
    b, _, n = x_BCNhw.shape[:3]
    dropped = torch.rand(b, 1, device=x_BCNhw.device, generator=generator) < DROPPED
    kept = torch.randint(1, max(n, 2), (b, 1), device=x_BCNhw.device, generator=generator)
    blank = dropped & (torch.arange(n, device=x_BCNhw.device)[None] < n - kept)
    return x_BCNhw * ~blank[:, None, :, None, None]
