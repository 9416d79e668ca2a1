"""Every training loss, with its equation.

Shapes: B batch, C latent channels, T frames, H W frame size, h w latent size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from helios_world.config import SamplerConfig
from helios_world.model.dit import VideoDiT
from helios_world.model.memory import split_memory
from helios_world.model.vae import VideoVAE, from_bytes
from helios_world.sampling.pyramid import level_endpoints, sample_pyramid, true_end
from helios_world.sampling.schedule import LOCAL_SIGMA, Level
from helios_world.training.corruption import corrupt, drop_history
from helios_world.training.data import Window

KL_WEIGHT = 1e-4
GRADIENT_WEIGHT = 0.5
START_SHARE = 0.5  # of draws at the very start of their level, where a one-step sampler evaluates the network
SIGMA_MEAN, SIGMA_DEVIATION = 0.4, 1.2  # of logit(sigma) for the other draws


def autoencoder_loss(
    vae: VideoVAE, frames_BTHW3: Tensor, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """|x - y| + 0.5 |dx - dy| + (x - y)^2 + 1e-4 KL, all means; d is the difference of neighbouring pixels."""
    x = from_bytes(frames_BTHW3, torch.float32)
    mean, log_variance = (part.float() for part in vae.posterior(x))
    noise = torch.randn(mean.shape, device=mean.device, generator=generator)
    y = vae.decode_raw(mean + (0.5 * log_variance).exp() * noise).float()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    mse = F.mse_loss(y, x)
    loss = F.l1_loss(y, x) + GRADIENT_WEIGHT * _gradient_l1(x, y) + mse + KL_WEIGHT * kl
    return loss, {"psnr_db": -10 * torch.log10(mse.detach() / 4), "kl": kl.detach()}


def pyramid_flow_loss(
    model: VideoDiT, window: Window, levels: Sequence[Level], draws: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Flow matching at every level of the pyramid: |v(z_sigma) - (start - end)|^2, the mean over levels.

    The history is encoded once; `draws[s]` noise draws of level s share it.
    """
    past = torch.cat([window.anchor, window.history], dim=2).float()
    past = torch.cat([past[:, :, :1], drop_history(past[:, :, 1:], generator)], dim=2)
    past = corrupt(past, generator)
    context = model.encode_history(split_memory(past[:, :, 1:], past[:, :, :1], model.config.history_sizes))
    errors = []
    for index, (level, count) in enumerate(zip(levels, draws, strict=True)):
        clean = window.clean.float().repeat_interleave(count, dim=0)
        noise = torch.randn(clean.shape, device=clean.device, generator=generator)
        start, end = level_endpoints(clean, noise, levels, index)
        sigma = draw_sigmas(len(clean), clean.device, generator)
        z = torch.lerp(end, start, sigma[:, None, None, None, None])
        timestep = level.t_min + sigma * (level.t_max - level.t_min)
        velocity = model(z, timestep, context, window.actions.repeat_interleave(count, dim=0))
        errors.append(F.mse_loss(velocity.float(), start - end))
    return torch.stack(errors).mean(), {f"level_{s}": error.detach() for s, error in enumerate(errors)}


def rollout_loss(
    model: VideoDiT, window: Window, levels: Sequence[Level], generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Flow matching on what playing computes: |v(z) - (z - end) / LOCAL_SIGMA|^2, the mean over levels.

    One Euler step a level, each level starting from what the one before made, not from the truth; with the true
    velocity every step lands on the true end of its level.

    Returns:
        loss, figures, and the chunk that was made, (B, C, 1, h, w), without gradients.
    """
    context = model.encode_history(split_memory(window.history, window.anchor, model.config.history_sizes))
    clean, errors = window.clean.float(), []

    def noise(shape: tuple[int, ...], draw: int) -> Tensor:
        return torch.randn(shape, device=clean.device, generator=generator)

    def velocity(z: Tensor, timestep: float) -> Tensor:
        index = len(errors)
        made = model(z, torch.full((len(z),), timestep, device=z.device), context, window.actions)
        errors.append(F.mse_loss(made.float(), (z - true_end(z, clean, levels, index)) / LOCAL_SIGMA))
        return made.detach()

    chunk = sample_pyramid(velocity, noise, tuple(clean.shape), levels, [1] * len(levels), SamplerConfig().gamma)
    return torch.stack(errors).mean(), {f"rollout_{s}": error.detach() for s, error in enumerate(errors)}, chunk


def draw_sigmas(count: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Local sigmas (count,): a share at the start of the level, the rest logit-normal."""
    logits = SIGMA_MEAN + SIGMA_DEVIATION * torch.randn(count, device=device, generator=generator)
    at_start = torch.rand(count, device=device, generator=generator) < START_SHARE
    return torch.where(at_start, LOCAL_SIGMA, logits.sigmoid() * LOCAL_SIGMA)


def _gradient_l1(x_BTHW3: Tensor, y_BTHW3: Tensor) -> Tensor:
    return sum(F.l1_loss(y_BTHW3.diff(dim=axis), x_BTHW3.diff(dim=axis)) for axis in (2, 3))
