"""What a decoder learns from: recorded chunks, with their latents as encoded or as the world's own network makes them.

Shapes: B batch, T frames of a chunk, H W frame size, C latent channels, h w latent size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from helios_world.model.dit import VideoDiT
from helios_world.model.vae import VideoVAE, from_bytes
from helios_world.sampling.schedule import Level
from helios_world.training.data import Coded, Recording
from helios_world.training.losses import student_chunk
from helios_world.training.rollouts import RolloutPool

NEAR = 2  # chunks of its own play for which a network's latents still are those of the recorded frames


class Encoded:
    """Recorded chunks as the encoder has them."""

    def __init__(self, vae: VideoVAE, recording: Recording):
        self._vae, self._recording = vae, recording
        self._ends = recording.chunk_ends(vae.config.frames)

    @torch.no_grad()
    def draw(self, rows: int, generator: torch.Generator) -> Coded:
        frames = self._recording.draw_chunks(self._ends, rows, self._vae.config.frames, generator)
        mean, log_variance = (part.float() for part in self._vae.posterior(from_bytes(frames, torch.float32)))
        noise = torch.randn(mean.shape, device=mean.device, generator=generator)
        near = torch.ones(rows, dtype=torch.bool, device=mean.device)
        return Coded(frames, mean + (0.5 * log_variance).exp() * noise, near)


class Made:
    """Chunks as a network makes them, one step at each of `levels`, playing on under the recorded buttons."""

    def __init__(
        self, vae: VideoVAE, recording: Recording, network: VideoDiT, pool: RolloutPool, levels: Sequence[Level]
    ):
        self._vae, self._recording, self._network = vae, recording, network
        self._pool, self._levels = pool, levels

    @torch.no_grad()
    def draw(self, length: float, generator: torch.Generator) -> Coded:
        """The next chunk of every row of the pool, whose rows live for `length` chunks on average."""
        pool = self._pool
        frames, near = self._recording.chunks(pool.end_B, self._vae.config.frames), pool.played_B < NEAR
        made = student_chunk(self._network, pool.window, self._levels, [1] * len(self._levels), generator)
        pool.advance(made, length, generator)
        return Coded(frames, self._vae.raw(made.float())[:, :, 0], near)
