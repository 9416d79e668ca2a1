"""The small world's autoencoder: a few frames stacked as channels, to latents an eighth the size, and back.

Plain residual convolutions without normalisation, so that it is quick on a CPU.
Shapes: B batch, T frames, H W frame size; latents (B, C, T/frames, H/8, W/8), normalised per channel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helios_world.config import AutoencoderConfig


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), the identity at first."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class VideoVAE(nn.Module):
    """Encodes and decodes chunks of `config.frames` RGB frames, each on its own."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        c, pixels = config.latent_channels, 3 * config.frames * 4
        w0, w1, w2 = config.widths
        e0, e1, e2 = config.encoder_depths
        d0, d1, d2 = config.decoder_depths
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(pixels, w0, 3, padding=1),
            *(ResidualBlock(w0) for _ in range(e0)),
            nn.Conv2d(w0, w1, 4, stride=2, padding=1),
            *(ResidualBlock(w1) for _ in range(e1)),
            nn.Conv2d(w1, w2, 4, stride=2, padding=1),
            *(ResidualBlock(w2) for _ in range(e2)),
            nn.SiLU(),
            nn.Conv2d(w2, 2 * c, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(c, w2, 3, padding=1),
            *(ResidualBlock(w2) for _ in range(d2)),
            nn.Conv2d(w2, 4 * w1, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(w1) for _ in range(d1)),
            nn.Conv2d(w1, 4 * w0, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(w0) for _ in range(d0)),
            nn.SiLU(),
            nn.Conv2d(w0, pixels, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.register_buffer("latent_mean", torch.zeros(c))
        self.register_buffer("latent_std", torch.ones(c))

    def posterior(self, video_BTHW3: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of one chunk's raw latent, each (B, C, H/8, W/8). Video is in -1..1."""
        stacked = video_BTHW3.permute(0, 1, 4, 2, 3).flatten(1, 2)
        mean, log_variance = self.encoder(stacked).chunk(2, dim=1)
        return mean, log_variance.clamp(-20.0, 4.0)

    def decode_raw(self, latent_BCHW: Tensor) -> Tensor:
        """Raw latents of one chunk to video (B, T, H, W, 3) in about -1..1."""
        return self.decoder(latent_BCHW).unflatten(1, (self.config.frames, 3)).permute(0, 1, 3, 4, 2)

    def encode(self, frames_BTHW3: Tensor) -> Tensor:
        """uint8 frames, T a multiple of config.frames, to normalised latents (B, C, T/frames, H/8, W/8)."""
        video = from_bytes(frames_BTHW3, self.latent_mean.dtype).unflatten(1, (-1, self.config.frames))
        mean, _ = self.posterior(video.flatten(0, 1))
        latents = (mean - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]
        return latents.unflatten(0, video.shape[:2]).transpose(1, 2)

    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents to uint8 frames (B, T * frames, H, W, 3)."""
        raw = self.raw(latents_BCTHW).transpose(1, 2).flatten(0, 1)
        return to_bytes(self.decode_raw(raw).unflatten(0, (latents_BCTHW.shape[0], -1)).flatten(1, 2))

    def raw(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents as the decoder takes them."""
        std, mean = (x_C[:, None, None, None] for x_C in (self.latent_std, self.latent_mean))
        return latents_BCTHW * std + mean


def from_bytes(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 0..255 to -1..1."""
    return frames.to(dtype) / 127.5 - 1.0


def to_bytes(video: Tensor) -> Tensor:
    """-1..1 to uint8 0..255, clipped."""
    return ((video.float() + 1.0) * 127.5).round_().clamp_(0, 255).to(torch.uint8)
