"""Low-rank adapters (LoRA, arXiv 2106.09685), for networks too large to train whole: y = W x + b + U D x, W frozen.

They exist in training alone. What is written is W + U D under the usual names, so that a run goes on, or is played,
from plain weights; going on begins with fresh adapters.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helios_world.model.dit import VideoDiT

DOWN, UP = ".lora_down", ".lora_up"
WHOLE = ("patch_short", "patch_mid", "patch_long", "action_embedder")  # learn whole: small, and new to a video network


class LowRankLinear(nn.Linear):
    """A linear layer that learns by its adapter: D (rank, in) is Gaussian at first, U (out, rank) zero."""

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        down = torch.randn(rank, linear.in_features, generator=generator) / linear.in_features**0.5
        self.lora_down = nn.Parameter(down.to(linear.weight))
        self.lora_up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.linear(F.linear(x, self.lora_down), self.lora_up)


def add_adapters(model: VideoDiT, rank: int, seed: int) -> None:
    """Freezes the network but for `WHOLE`, and gives every linear layer of its blocks an adapter."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in WHOLE))
    for name, module in list(model.blocks.named_modules()):
        if type(module) is nn.Linear:
            parent, _, child = name.rpartition(".")
            model.blocks.get_submodule(parent).register_module(child, LowRankLinear(module, rank, generator))


def merge_adapters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without adapters that compute the same; those that have none are as they were."""
    found = {}
    for name, weight in weights.items():
        stem = name.removesuffix(".weight")
        if name != stem and stem + UP in weights:
            weight = weight + weights[stem + UP] @ weights[stem + DOWN]
        if not name.endswith((DOWN, UP)):
            found[name] = weight
    return found
