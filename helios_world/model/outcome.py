"""What a chunk came to, from its latents: whether a reward came with it, and whether the game ends after it.

Shapes: B batch, C latent channels, N latent frames, h w latent size, A numbers of buttons and scene, S scenes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helios_world.config import OutcomeConfig
from helios_world.model.vae import ResidualBlock

EVENTS = ("reward", "end")
SQUEEZED = 32  # channels of the last picture
GRID = (4, 5)  # its size
DROPPED = 0.5  # share of its numbers that training leaves out: what is rare is soon known by heart


class OutcomeNetwork(nn.Module):
    """Latents and buttons to two logits, and to two calibrated probabilities.

    Logits are those of a game in which either happens half the time, as in training. `scale` and `bias`, of each event
    in each scene, turn them into those of the real game: scale * logit + bias.
    """

    scale: Tensor  # (S * 2,)
    bias: Tensor

    def __init__(self, config: OutcomeConfig):
        super().__init__()
        self.config = config
        fine, coarse = config.widths
        self.look = nn.Conv2d(config.frames * config.latent_channels, fine, 3, padding=1)
        recalled = config.recalled * config.latent_channels
        self.recall = nn.Conv2d(recalled, fine, 1, bias=False) if recalled else None
        self.held = nn.Linear(config.action_dim + config.scene_dim, fine)
        self.body = nn.Sequential(
            ResidualBlock(fine), nn.Conv2d(fine, coarse, 3, stride=2, padding=1), ResidualBlock(coarse)
        )
        self.head = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(coarse, SQUEEZED, 3, stride=2, padding=1),  # not a mean, which would blur a number's digits
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
            nn.Dropout(DROPPED),
            nn.Linear(SQUEEZED * GRID[0] * GRID[1], fine),
            nn.SiLU(),
            nn.Linear(fine, len(EVENTS)),
        )
        kinds = max(1, config.scene_dim) * len(EVENTS)
        self.register_buffer("scale", torch.ones(kinds))
        self.register_buffer("bias", torch.zeros(kinds))

    def forward(self, x_BCNhw: Tensor, actions_BA: Tensor) -> Tensor:
        """Logits (B, 2), in the order of EVENTS.

        Args:
            x_BCNhw: the newest `config.window` latent frames, oldest first, zeros for none.
            actions_BA: buttons of the newest, then the scene, as the transformer takes them.
        """
        older, newest = x_BCNhw.split([self.config.recalled, self.config.frames], dim=2)
        x = self.look(newest.flatten(1, 2)) + self.held(actions_BA)[:, :, None, None]
        if self.recall is not None:
            x = x + self.recall(older.flatten(1, 2))
        return self.head(self.body(x))

    def chances(self, x_BCNhw: Tensor, actions_BA: Tensor) -> Tensor:
        """Calibrated probabilities (B, 2)."""
        scenes = self.config.scene_dim
        scene_B = actions_BA[:, -scenes:].argmax(dim=1) if scenes else torch.zeros_like(actions_BA[:, 0]).long()
        scale, bias = (x.view(-1, len(EVENTS))[scene_B] for x in (self.scale, self.bias))
        return (scale * self(x_BCNhw, actions_BA) + bias).sigmoid()
