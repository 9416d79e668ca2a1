"""Embeddings of noise level, held buttons and text: what modulates the blocks.

The time embedder may be kept in float32 where the rest is bfloat16.

Parameter names are those of the released checkpoints, but for `action_embedder`, which is ours.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helios_world.config import TransformerConfig


class Embedder(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, inputs: int, width: int, activation: nn.Module):
        super().__init__()
        self.linear_1 = nn.Linear(inputs, width)
        self.act = activation
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(x)))


class ConditionEmbedder(nn.Module):
    """Time steps (and actions) to modulation rows; text to cross-attention tokens."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.freq_dim = config.freq_dim
        self.has_text = config.text_dim > 0
        self.time_embedder = Embedder(config.freq_dim, config.width, nn.SiLU())
        self.time_proj = nn.Linear(config.width, 6 * config.width)
        if self.has_text:
            self.text_embedder = Embedder(config.text_dim, config.width, nn.GELU("tanh"))
        if config.action_dim:
            self.action_embedder = Embedder(config.action_dim + config.scene_dim, config.width, nn.SiLU())

    def forward(self, timestep_B: Tensor, actions_BTA: Tensor | None) -> tuple[Tensor, Tensor]:
        """One row per latent frame where there are actions, one per sample otherwise.

        Returns:
            temb (B, R, D) for the output head, and its projection (B, R, 6, D) for the blocks.
        """
        dtype = self.time_embedder.linear_1.weight.dtype
        temb = self.time_embedder(sinusoid(timestep_B, self.freq_dim).to(dtype))[:, None]
        if actions_BTA is None:
            return temb, self._rows(F.silu(temb))
        moved = temb + self.action_embedder(actions_BTA.to(dtype))
        if not self.has_text:
            return moved, self._rows(F.silu(moved))
        # The same, told apart: where actions add nothing yet, a released model (they read text) keeps every bit.
        added = F.silu(moved) - F.silu(temb)
        return moved, self._rows(F.silu(temb)) + self._rows(added, bias=False)

    def _rows(self, x_BRD: Tensor, *, bias: bool = True) -> Tensor:
        weight = self.time_proj.weight
        projected = F.linear(x_BRD.to(weight.dtype), weight, self.time_proj.bias if bias else None)
        return projected.unflatten(-1, (6, -1))


def sinusoid(timestep_B: Tensor, dim: int) -> Tensor:
    """[cos(t f), sin(t f)] with f_j = exp(-ln(10000) j / (dim/2)); t runs from 0 to 1000."""
    frequencies = torch.exp(
        -math.log(10000.0) * torch.arange(dim // 2, device=timestep_B.device, dtype=torch.float32) / (dim // 2)
    )
    angles = timestep_B.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
