"""The Wan 2.1 autoencoder behind the interface of `model.vae`: diffusers' network, our normalisation and bytes.

A chunk is a clip of its own: its first latent holds one RGB frame, each of the others four (1 + 4 (T - 1) frames).
Nothing is carried from one chunk to the next, as Helios was trained that way (arXiv 2603.04379).
Shapes: B batch, T frames, H W frame size; latents (B, C, 1 + (T-1)/4, H/8, W/8), normalised per channel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from helios_world.clip import latents_of
from helios_world.errors import PackError, UserError
from helios_world.model.pretrained import load_pretrained, optional_import
from helios_world.model.vae import from_bytes, to_bytes


class WanVAE:
    """Encodes and decodes chunks of 1 + 4 k RGB frames, each on its own."""

    def __init__(self, network: Any):
        """Args:
        network: a diffusers AutoencoderKLWan; its device and number format are those of the work.
        """
        self.network = network
        self.scale = network.config.scale_factor_spatial
        self.channels = network.config.z_dim

    @classmethod
    def load(cls, folder: Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Self:
        """From a `vae` folder in the diffusers layout.

        Raises:
            MissingExtra: diffusers is not installed.
            PackError: the folder is damaged, or holds another kind of autoencoder.
        """
        with optional_import("diffusers"):
            from diffusers import AutoencoderKLWan
            from diffusers.utils import logging
        network, _ = load_pretrained(AutoencoderKLWan, folder, logging, torch_dtype=dtype, low_cpu_mem_usage=False)
        for name in ("latents_mean", "latents_std"):
            if len(network.config[name]) != network.config.z_dim:
                raise PackError(f"{folder}: {name} has {len(network.config[name])} values: must be z_dim")
        return cls(network.to(device))

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    def to(self, device: str | torch.device) -> Self:
        """Moves the network, and with it the work."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def encode(self, frames_BTHW3: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One chunk of uint8 frames, T = 1 + 4 k, to normalised float32 latents (B, C, 1 + k, H/8, W/8).

        Args:
            generator: draws from the posterior; None takes its mode.
        """
        _, frames, height, width, _ = frames_BTHW3.shape
        latents_of(frames)
        if height % self.scale or width % self.scale:
            raise UserError(f"frames are {height}x{width}: height and width must be multiples of {self.scale}")
        video = from_bytes(frames_BTHW3.to(self.device), torch.float32).permute(0, 4, 1, 2, 3)
        posterior = self.network.encode(video.to(self.dtype)).latent_dist
        raw = posterior.mode() if generator is None else posterior.sample(generator)
        return (raw.float() - self._per_channel("latents_mean")) / self._per_channel("latents_std")

    @torch.no_grad()
    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents of one chunk to uint8 frames (B, 1 + 4 (T-1), H, W, 3)."""
        if latents_BCTHW.ndim != 5 or latents_BCTHW.shape[1] != self.channels or latents_BCTHW.shape[2] < 1:
            shape = tuple(latents_BCTHW.shape)
            raise UserError(f"latents have shape {shape}: must be (batch, {self.channels}, 1 or more, height, width)")
        latents = latents_BCTHW.to(self.device, torch.float32)
        raw = latents * self._per_channel("latents_std") + self._per_channel("latents_mean")
        return to_bytes(self.network.decode(raw.to(self.dtype)).sample.permute(0, 2, 3, 4, 1))

    def _per_channel(self, name: str) -> Tensor:
        return torch.tensor(self.network.config[name], device=self.device)[:, None, None, None]
