"""What a decoder is judged by: a network that tells real chunks of frames from decoded ones, patch by patch.

Shapes: B batch, T frames of a chunk, H W frame size, h w patches, D width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 256)


class Discriminator(nn.Module):
    """A chunk (B, T, H, W, 3) in -1..1 to a logit for each patch (B, 1, h, w), high for what looks real.

    All frames of a chunk are seen together, so that flicker is told as well. Patches overlap and are 46 pixels wide
    (arXiv 1611.07004). Nothing is normalised: how strong a texture is has to be seen (arXiv 2501.05441).
    """

    def __init__(self, frames: int):
        super().__init__()
        sizes = (3 * frames, *WIDTHS)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(low, high, 4, stride=2, padding=1), nn.SiLU()) for low, high in pairwise(sizes)
        )
        self.to_logit = nn.Conv2d(WIDTHS[-1], 1, 3, padding=1)

    def forward(self, video_BTHW3: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The logits, and the features (B, D, h, w) of every stage."""
        x, features = video_BTHW3.permute(0, 1, 4, 2, 3).flatten(1, 2), []
        x = x.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.to_logit(x), features
