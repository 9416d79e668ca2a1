"""Histories that the network continues itself while it learns, so that it is taught from its own mistakes.

Shapes: B rows, C latent channels, N latent frames of history, h w latent size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helios_world.training.corruption import drop_history
from helios_world.training.data import Window, WindowSource, draw_ends


class RolloutPool:
    """B rows, each a recorded moment that the network plays on from under the recorded buttons.

    `window` is what to learn next: a history that ends in the network's own chunks, and the real chunk that should
    follow. A row lives for a random number of chunks, or until its episode ends; then another moment takes its place.
    `played_B` counts the chunks that each row has played so far, `end_B` are the frames at which the real chunks end.
    """

    def __init__(self, source: WindowSource, ends: Tensor, rows: int, generator: torch.Generator):
        """Args:
        ends: frames at which a first chunk to predict may end.
        """
        self._source, self._ends = source, ends
        self.end_B, self.window = self._fresh(rows, generator)
        self.played_B = torch.zeros_like(self.end_B)

    def advance(self, made_BC1hw: Tensor, length: float, generator: torch.Generator) -> None:
        """Takes what the network made of `window` into the histories, and moves on by one chunk.

        Args:
            length: chunks that a row lives for, on average: 1 or more.
        """
        rows, device = len(made_BC1hw), made_BC1hw.device
        fresh_end, fresh = self._fresh(rows, generator)
        following = (self.end_B + self._source.chunk).clamp(max=len(self._source.latents) - 1)
        first = self._source.recording.first
        over = (first[following] != first[self.end_B]) | (following == self.end_B)
        over |= torch.rand(rows, device=device, generator=generator) < 1 / length
        history = torch.cat([self.window.history[:, :, 1:], made_BC1hw.to(self.window.history.dtype)], dim=2)
        target, weight = self._source.target(following), self._source.weight(following)
        kept = Window(history, self.window.anchor, *target, self.window.age + 1, weight)
        self.end_B = torch.where(over, fresh_end, following)
        self.played_B = torch.where(over, 0, self.played_B + 1)
        self.window = Window(
            *(
                torch.where(over.view(-1, *(1 for _ in old.shape[1:])), new, old)
                for new, old in zip(fresh, kept, strict=True)
            )
        )

    def _fresh(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Window]:
        """Recorded moments; some with a short past, as after a start from an image."""
        ends = draw_ends(self._source.recording, self._ends, rows, generator)
        window = self._source.draw(ends, generator)
        return ends, window._replace(history=drop_history(window.history, generator))
