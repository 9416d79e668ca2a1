"""How the networks of a world are set up in this process. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from helios_world.card import WorldCard
from helios_world.clip import chunk_frames
from helios_world.errors import UserError

CHECKPOINT_OPTIONS = ("weights", "latents", "size", "offload")


@dataclass(frozen=True)
class EngineOptions:
    """What is left open by a world pack. The last four are for worlds whose networks come from a checkpoint.

    Attributes:
        dtype: "float32", "bfloat16", or "auto" for whichever is faster here.
        device: "cpu", "cuda", "cuda:1", ..., or "auto" for a GPU where the world gains by it and torch sees one.
        steps: denoise steps per pyramid level, coarse to fine; None for the world's own.
        drift_correction: 0 to 1, how far the past that the network sees is moved to the anchor's colours and contrast.
        weights: folder of a Helios checkpoint in the diffusers layout.
        latents: latent frames per chunk, 1 to 9; None for 9, the number that the release was trained at.
        size: (height, width) of a frame; None for the card's.
        offload: the transformer's blocks wait in host memory and visit the GPU two at a time.
    """

    dtype: str = "auto"
    device: str = "auto"
    steps: tuple[int, ...] | None = None
    drift_correction: float = 0.0
    weights: str | None = None
    latents: int | None = None
    size: tuple[int, int] | None = None
    offload: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.drift_correction <= 1:
            raise UserError(f"drift_correction is {self.drift_correction}: must be 0 to 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From keyword arguments; lists stand for tuples. UserError for a name that there is not."""
        names = [f.name for f in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise UserError(f"unknown option {', '.join(unknown)}: choose from {', '.join(names)}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def fit(self, card: WorldCard, *, checkpoint: bool) -> WorldCard:
        """`card` as these options make it. UserError for options that its world does not have.

        Args:
            checkpoint: the world's networks come from a checkpoint.
        """
        if not checkpoint:
            default = EngineOptions()
            for name in CHECKPOINT_OPTIONS:
                if getattr(self, name) != getattr(default, name):
                    raise UserError(f"world {card.name!r} has networks of its own: it takes no {name}")
            return card
        if self.latents is not None:
            card = replace(card, frames_per_chunk=chunk_frames(self.latents))
        if self.size is not None:
            card = replace(card, height=self.size[0], width=self.size[1])
        return card
