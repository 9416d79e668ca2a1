"""What a student is judged by: a score network that learns what the student makes, and heads that tell it from truth.

The heads taste the score network's own features, at several depths, and its final velocity.
Shapes: B batch, C latent channels, N tokens, D width, h w latent size, K heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helios_world.model.dit import HistoryContext, VideoDiT

WIDTH = 128  # channels of a head
GROUPS = 16


class Head(nn.Module):
    """A picture of features (B, D, h, w) to one logit each, (B,): high for what looks real."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1),
            nn.GroupNorm(GROUPS, WIDTH),
            nn.SiLU(),
            nn.Conv2d(WIDTH, WIDTH, 4, stride=2, padding=1),
            nn.GroupNorm(GROUPS, WIDTH),
            nn.SiLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.GroupNorm(GROUPS, WIDTH),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(WIDTH, 1),
        )

    def forward(self, x_BDhw: Tensor) -> Tensor:
        return self.layers(x_BDhw)[:, 0]


class Critic(nn.Module):
    """A score network and its heads. One latent frame a chunk."""

    def __init__(self, score: VideoDiT):
        """Takes `score` over, mostly a copy of the teacher."""
        super().__init__()
        self.score = score
        depth = score.config.num_layers
        self.taps = tuple(sorted({depth // 4, depth // 2, 3 * depth // 4, depth - 1}))
        self.heads = nn.ModuleList(Head(score.config.width) for _ in self.taps)
        self.last_head = Head(score.config.out_channels)

    def judge(self, z_BC1hw: Tensor, timestep_B: Tensor, context: HistoryContext, actions_B1A: Tensor) -> Tensor:
        """Logits (B, K) of noisy chunks at the finest level."""
        velocity, tapped = self.score.tapped(z_BC1hw, timestep_B, context, actions_B1A, taps=self.taps)
        _, high, wide = self.score.config.patch_size
        grid = (z_BC1hw.shape[-2] // high, z_BC1hw.shape[-1] // wide)
        pictures = [tokens.transpose(1, 2).unflatten(2, grid) for tokens in tapped]
        logits = [head(picture) for head, picture in zip(self.heads, pictures, strict=True)]
        return torch.stack([*logits, self.last_head(velocity[:, :, 0])], dim=1)
