"""The judge of `helios-world eval`: looks at pictures, real or made up, and tells what the game would know.

A small convolutional network of the frames of a chunk, the last as it is and all as changes since the one before. How
things move is hard to learn from changes: so it is also shown how well each frame, moved sideways, fits the next in
every part of the picture (a cost volume, as in FlowNetC, arXiv 1504.06852). Both meet at 1/16 of the frame size.
Shapes: B batch, T frames of a chunk, H W frame size, A buttons, S scenes, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helios_world.config import ProbeConfig
from helios_world.model.vae import from_bytes

GROUPS = 8
CHANGES = 2.0  # changes from frame to frame are about half as large as frames
MOTION_WIDTH = 48
STATE = 6  # place, heading, health, monster


class Reading(NamedTuple):
    """What a probe reads from a batch of chunks. All but the buttons is as of the last frame."""

    buttons: Tensor  # (B, T, A) logits: held for each frame
    place: Tensor  # (B, 2) x and y; 0 is the mean of the scene, 1 a standard deviation
    heading: Tensor  # (B, 2) cosine and sine, not of length 1
    health: Tensor  # (B,) 1 is full
    monster: Tensor  # (B,) logit: one is to be seen
    scene: Tensor  # (B, S) logits
    features: Tensor  # (B, F) what all of it is read from


class Block(nn.Module):
    """x + conv(silu(norm(x)))."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.silu(self.norm(x)))


class Probe(nn.Module):
    """uint8 frames (B, 1 + T, H, W, 3) to a `Reading`."""

    def __init__(self, config: ProbeConfig):
        super().__init__()
        self.config = config
        w0, w1, w2, w3 = config.widths
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12 * (1 + config.frames), w0, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(w0, w1, 4, stride=2, padding=1),
            Block(w1),
            Block(w1),
            nn.Conv2d(w1, w2, 3, stride=2, padding=1),
            Block(w2),
            Block(w2),
            nn.Conv2d(w2, w3, 3, stride=2, padding=1),
            nn.GroupNorm(GROUPS, w3),
            nn.SiLU(),
            nn.Conv2d(w3, config.squeezed, 1),
            nn.Flatten(),
        )
        self.motion = nn.Sequential(
            nn.Conv2d(config.frames * (2 * config.shifts + 1), MOTION_WIDTH, 1),
            nn.SiLU(),
            nn.Conv2d(MOTION_WIDTH, config.squeezed, 1),
            nn.Flatten(),
        )
        self.neck = nn.Sequential(
            nn.Linear(2 * config.squeezed * (config.height // 16) * (config.width // 16), config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.features),
        )
        self.heads = nn.Linear(config.features, config.frames * config.buttons + STATE + len(config.scenes))

    def forward(self, frames_BTHW3: Tensor) -> Reading:
        return self.look(from_bytes(frames_BTHW3, self.heads.weight.dtype))

    def look(self, video_BTHW3: Tensor) -> Reading:
        """The same of frames in -1..1."""
        stacked = torch.cat([CHANGES * video_BTHW3.diff(dim=1), video_BTHW3[:, -1:]], dim=1)
        seen = self.trunk(stacked.permute(0, 1, 4, 2, 3).flatten(1, 2))
        moved = self.motion(costs(video_BTHW3, self.config.shifts))
        features = self.neck(torch.cat([seen, moved], dim=1)).float()
        told = self.heads(F.silu(features)).float()
        buttons, place, heading, state, scene = told.split(
            [self.config.frames * self.config.buttons, 2, 2, 2, len(self.config.scenes)], dim=1
        )
        held = buttons.unflatten(1, (self.config.frames, self.config.buttons))
        return Reading(held, place, heading, state[:, 0], state[:, 1], scene, features)


def costs(video_BTHW3: Tensor, shifts: int) -> Tensor:
    """How badly each frame, moved by up to `shifts` pixels to the left or right, fits the next.

    Mean absolute differences of grey at half size over parts of 8x8 pixels, less their mean over all shifts, times 8:
    (B, (T - 1) * (2 * shifts + 1), H/16, W/16), for each pair of frames the farthest to the right first.
    """
    grey = F.avg_pool2d(video_BTHW3.mean(dim=-1), 2)
    width, wide = grey.shape[-1], F.pad(grey[:, :-1], (shifts, shifts, 0, 0), mode="replicate")
    moved = torch.stack([wide[..., k : k + width] for k in range(2 * shifts + 1)], dim=2)
    fits = F.avg_pool2d((grey[:, 1:, None] - moved).abs().flatten(1, 2), 8).unflatten(1, (-1, 2 * shifts + 1))
    return 8 * (fits - fits.mean(dim=2, keepdim=True)).flatten(1, 2)
