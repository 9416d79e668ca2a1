"""A collected data set on the training device, and the batches drawn from it.

Shapes: B batch, T RGB frames, A buttons; latents (C, h, w) per latent frame.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from helios_world.errors import UserError
from helios_world.model.vae import VideoVAE


class Window(NamedTuple):
    """One chunk to predict and what is known before it."""

    history: Tensor  # (B, C, N, h, w) clean, oldest first, zeros before the episode's start
    anchor: Tensor  # (B, C, 1, h, w)
    clean: Tensor  # (B, C, 1, h, w) the chunk to predict
    actions: Tensor  # (B, 1, T * A) that led to its frames

    def first(self, rows: int) -> Window:
        """The first rows of the batch."""
        return Window(*(part[:rows] for part in self))


@dataclass(frozen=True)
class Recording:
    """All frames of a data set, one after another.

    Attributes:
        frames: uint8 (n, H, W, 3), on the training device.
        actions: uint8 (n, A); row t led to frame t.
        first: int64 (n,), index of the first frame of the episode that a frame belongs to.
        poses: float32 (n, 3).
        facts: what data.json says.
    """

    frames: Tensor
    actions: Tensor
    first: Tensor
    poses: np.ndarray
    facts: dict

    def without_frames(self) -> Recording:
        """The same without its frames, which are most of its memory, once they are encoded."""
        return replace(self, frames=self.frames[:0].clone())

    def chunk_ends(self, chunk: int, chunks_before: int = 0) -> Tensor:
        """Indices at which a chunk can end, with at least `chunks_before` whole chunks before it in its episode."""
        index = torch.arange(len(self.first), device=self.first.device)
        return index[index - self.first >= chunk * (chunks_before + 1) - 1]

    def chunks(self, ends_B: Tensor, chunk: int) -> Tensor:
        """uint8 (B, chunk, H, W, 3): the frames up to and with each end."""
        return self.frames[ends_B[:, None] + torch.arange(1 - chunk, 1, device=ends_B.device)]


def load_recording(folder: Path, device: torch.device, *, part: int = 0, parts: int = 1) -> Recording:
    """Reads a data set that `helios-world collect` made, or every `parts`-th shard of it from number `part` on.

    Raises:
        UserError: the folder is not a data set, is damaged, or has fewer shards than parts.
    """
    try:
        facts = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        if facts["workers"] < parts:
            raise UserError(f"{folder} has {facts['workers']} shards: {parts} processes need as many")
        stems = [f"{i:03d}" for i in range(part, facts["workers"], parts)]
        arrays = {
            name: [np.load(folder / f"{stem}.{name}.npy", mmap_mode="r") for stem in stems]
            for name in ("frames", "actions", "episodes", "poses")
        }
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{folder} is not a data set of helios-world collect ({type(error).__name__}: {error})"
        ) from None
    total = sum(map(len, arrays["frames"]))
    frames = torch.empty((total, *arrays["frames"][0].shape[1:]), dtype=torch.uint8, device=device)
    first, offset = [], 0
    for shard, episodes in zip(arrays["frames"], arrays["episodes"], strict=True):
        for low in range(0, len(shard), 8192):
            part = torch.from_numpy(np.array(shard[low : low + 8192]))
            frames[offset + low : offset + low + len(part)] = part.to(device)
        first.append(np.searchsorted(episodes, episodes) + offset)
        offset += len(shard)
    return Recording(
        frames,
        torch.from_numpy(np.concatenate(arrays["actions"])).to(device),
        torch.from_numpy(np.concatenate(first)).to(device),
        np.concatenate(arrays["poses"]),
        facts,
    )


@torch.no_grad()
def encode_recording(vae: VideoVAE, recording: Recording, batch: int = 512) -> Tensor:
    """Latents (n, C, h, w) bfloat16 of the chunk ending at every frame, so that windows can start anywhere.

    A chunk that would begin before its episode repeats the first frame.
    """
    chunk = vae.config.frames
    steps = torch.arange(1 - chunk, 1, device=recording.first.device)
    latents = None
    for low in range(0, len(recording.first), batch):
        ends = torch.arange(low, min(low + batch, len(recording.first)), device=recording.first.device)
        index = (ends[:, None] + steps).clamp(min=recording.first[ends][:, None])
        with torch.autocast(ends.device.type, torch.bfloat16):
            part = vae.encode(recording.frames[index])[:, :, 0]
        if latents is None:
            latents = torch.empty((len(recording.first), *part.shape[1:]), dtype=torch.bfloat16, device=part.device)
        latents[ends] = part.to(torch.bfloat16)
    assert latents is not None, "a recording has frames"
    return latents


@dataclass(frozen=True)
class WindowSource:
    """Draws windows from encoded frames.

    Attributes:
        latents: (n, C, h, w), the chunk ending at each frame.
        history: latent frames of history.
        chunk: RGB frames per latent frame.
        max_anchor_age: chunks between the anchor and the chunk to predict, at most.
    """

    latents: Tensor
    recording: Recording
    history: int
    chunk: int
    max_anchor_age: int = 260

    def draw(self, ends_B: Tensor, generator: torch.Generator) -> Window:
        """The windows whose chunk ends at `ends_B`, with anchors of random age."""
        device, first = ends_B.device, self.recording.first[ends_B]
        back = self.chunk * torch.arange(self.history, 0, -1, device=device)
        index = ends_B[:, None] - back
        known = index - first[:, None] >= self.chunk - 1
        history = self.latents[index.clamp(min=0)] * known[:, :, None, None, None]
        available = (ends_B - first - self.chunk + 1) // self.chunk
        age = 1 + (torch.rand(len(ends_B), device=device, generator=generator) * available).long()
        anchor = self.latents[ends_B - self.chunk * age.clamp(max=self.max_anchor_age)]
        return Window(history.transpose(1, 2), anchor[:, :, None], *self.target(ends_B))

    def target(self, ends_B: Tensor) -> tuple[Tensor, Tensor]:
        """The chunks that end at `ends_B`, (B, C, 1, h, w), and the buttons that led to their frames, (B, 1, T * A)."""
        steps = torch.arange(1 - self.chunk, 1, device=ends_B.device)
        actions = self.recording.actions[ends_B[:, None] + steps].flatten(1)[:, None]
        return self.latents[ends_B][:, :, None], actions.float()
