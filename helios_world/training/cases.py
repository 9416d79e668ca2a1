"""What recorded chunks came to, and batches in which what is rare comes as often as what is not.

Shapes: B batch, n frames, A numbers of buttons and scene, C latent channels, N latent frames, h w latent size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from helios_world.model.outcome import EVENTS
from helios_world.training.data import WindowSource

HELD_OUT = 8  # one game in so many is kept from training, to calibrate on


class Case(NamedTuple):
    """Chunks, each with one event that is asked for."""

    latents: Tensor  # (B, C, N, h, w), the newest last
    actions: Tensor  # (B, A) of the newest
    event: Tensor  # (B,) index into EVENTS
    came: Tensor  # (B,) float, 1 if it did


def came_of(outcomes_n3: Tensor, first_n: Tensor, ends_B: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Whether each event came, bool (B, 2), with chunks that end at `ends`; and whether that is known, (B,).

    The end came: the game ends by its own rules before the next chunk is over. There is no frame of that, so this is
    the last whole chunk.
    A reward came: in one of the steps that led to the chunk's frames; in the last chunk, in any step from there on.
    It is not known where the recording stops before the next chunk is over, for another reason.
    """
    behind = ends_B[:, None] + torch.arange(1 - chunk, 1, device=ends_B.device)
    ahead = ends_B[:, None] + torch.arange(chunk, device=ends_B.device)
    within = ahead < len(first_n)
    ahead = ahead.clamp(max=len(first_n) - 1)
    within = within & (first_n[ahead] == first_n[ends_B][:, None])
    led, last, over = (outcomes_n3[ahead] * within[:, :, None]).unbind(-1)
    end = (over > 0).any(dim=1)
    late = ((led + last) >= 1).any(dim=1)
    reward = (outcomes_n3[behind][..., 0] >= 1).any(dim=1) | (end & late)
    return torch.stack([reward, end], dim=1), within.all(dim=1) | end


class Cases:
    """The chunks of a recording of which it is known what came with them: most to train on, whole games held out."""

    def __init__(self, source: WindowSource):
        recording, self._source = source.recording, source
        ends = recording.chunk_ends(source.chunk)
        came, known = came_of(recording.outcomes, recording.first, ends, source.chunk)
        ends, came = ends[known], came[known]
        _, game = recording.first[ends].unique(return_inverse=True)
        kept = game % HELD_OUT == HELD_OUT - 1
        self._held_out, self._held_out_came = ends[kept], came[kept]
        ends, came = ends[~kept], came[~kept]
        kinds = [(scene, event) for scene in range(len(recording.scenes)) for event in range(len(EVENTS))]
        groups = [
            ends[(recording.scene[ends] == scene) & (came[:, event] == whether)]
            for scene, event in kinds
            for whether in (False, True)
        ]
        self._members = torch.cat(groups)
        self._counts = torch.tensor([len(group) for group in groups], device=ends.device)
        self._starts = self._counts.cumsum(0) - self._counts

    def draw(self, rows: int, generator: torch.Generator) -> Case:
        """A batch: each event in each scene as often as any other, and half the times it came."""
        device, kinds = self._counts.device, len(self._counts) // 2
        group = torch.randint(2 * kinds, (rows,), device=device, generator=generator)
        group = torch.where(self._counts[group] > 0, group, group ^ 1)  # what never comes is seen not to come
        place = torch.rand(rows, device=device, generator=generator, dtype=torch.float64) * self._counts[group]
        ends = self._members[self._starts[group] + place.long()]
        return self._case(ends, group // 2 % len(EVENTS), group % 2)

    def held_out(self, scene: int, event: int, rows: int = 512) -> Iterator[Case]:
        """All of a scene that are held out, as often as in the game, `rows` at a time."""
        here = self._source.recording.scene[self._held_out] == scene
        parts = (part[here].split(rows) for part in (self._held_out, self._held_out_came[:, event]))
        for ends, came in zip(*parts, strict=True):
            yield self._case(ends, torch.full_like(ends, event), came)

    def log_odds(self) -> list[float]:
        """By scene and event, that it comes in the game, where it comes in half of what `draw` gives."""
        absent, came = (self._counts.view(-1, 2) + 0.5).log().unbind(dim=1)
        return (came - absent).tolist()

    def _case(self, ends_B: Tensor, event_B: Tensor, came_B: Tensor) -> Case:
        clean, actions = self._source.target(ends_B)
        latents = torch.cat([self._source.past(ends_B), clean], dim=2)
        return Case(latents, actions[:, 0], event_B, came_B.float())
