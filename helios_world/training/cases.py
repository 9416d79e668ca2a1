"""What recorded chunks came to, and batches in which what is rare comes as often as what is not.

Shapes: B batch, n frames or chunks, A numbers of buttons and scene, C latent channels, N latent frames, h w latent
size, K kinds: each event in each scene.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from helios_world.model.outcome import EVENTS
from helios_world.training.data import WindowSource

HELD_OUT = 8  # one game in so many is kept from training, to calibrate on
MATCHED = 0.5  # share of the chunks without an event that are drawn to hold the buttons of chunks with it


class Case(NamedTuple):
    """Chunks, each with one event that is asked for."""

    latents: Tensor  # (B, C, N, h, w), the newest last
    actions: Tensor  # (B, A) of the newest
    event: Tensor  # (B,) index into EVENTS
    came: Tensor  # (B,) float, 1 if it did
    offset: Tensor  # (B,) log of how much oftener such chunks without the event are drawn than the game has them


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


def held_sets(actions_nA: Tensor, ends_B: Tensor, chunk: int) -> Tensor:
    """Which buttons were held in any frame of the chunks that end at `ends`, as the bits of an int64 (B,)."""
    steps = torch.arange(1 - chunk, 1, device=ends_B.device)
    held = (actions_nA[ends_B[:, None] + steps] > 0).any(dim=1)
    return (held * 2 ** torch.arange(held.shape[1], device=held.device)).sum(dim=1)


def offsets_of(counts: Tensor) -> Tensor:
    """`Case.offset` by kind and set of buttons, float32 (K, sets).

    A set that a share p of the chunks without the event hold, and q of those with it, is drawn 1 - m + m u + m q / p
    times as often as the game has it, m = MATCHED; u are those with the event whose set is never held without it.

    Args:
        counts: (2 K, sets) chunks; without the event, then with it, for each kind.
    """
    absent, came = counts.view(-1, 2, counts.shape[1]).double().unbind(dim=1)
    p, q = (part / part.sum(dim=1, keepdim=True).clamp(min=1) for part in (absent, came))
    found = absent > 0
    unmatched = 1 - (q * found).sum(dim=1, keepdim=True)
    ratio = torch.where(found, q / p.clamp(min=torch.finfo(p.dtype).tiny), 0)
    return (1 - MATCHED + MATCHED * unmatched + MATCHED * ratio).log().float()


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
        self._sort(ends[~kept], came[~kept])

    def draw(self, rows: int, generator: torch.Generator) -> Case:
        """A batch: each event in each scene as often as any other, and half the times it came.

        Of the chunks without an event, half are such as the game has, and half are matched to chunks with it: one of
        those is drawn, and then a chunk without that holds the same buttons, if there is one. So a button alone tells
        little. What that does to the odds is `Case.offset`: logit - offset is to be fitted to the batch, and the logit
        is then that of a game with the event in half of its chunks (case-control sampling with known fractions).
        """
        device, many = self._counts.device, self._counts.sum(dim=1)
        group = torch.randint(len(many), (rows,), device=device, generator=generator)
        group = torch.where(many[group] > 0, group, group ^ 1)  # what never comes is seen not to come
        beside = group | 1  # with the event
        like = self._pick(self._starts[beside, 0], many[beside], generator).clamp(max=len(self._members) - 1)
        held = self._held[like]
        matched = (group < beside) & (many[beside] > 0) & (self._counts[group, held] > 0)
        matched &= torch.rand(rows, device=device, generator=generator) < MATCHED
        pick = torch.where(
            matched,
            self._pick(self._starts[group, held], self._counts[group, held], generator),
            self._pick(self._starts[group, 0], many[group], generator),
        )
        offset = self._offsets[group // 2, self._held[pick]]
        return self._case(self._members[pick], group // 2 % len(EVENTS), group % 2, offset)

    def held_out(self, scene: int, event: int, rows: int = 512) -> Iterator[Case]:
        """All of a scene that are held out, as often as in the game, `rows` at a time."""
        here = self._source.recording.scene[self._held_out] == scene
        parts = (part[here].split(rows) for part in (self._held_out, self._held_out_came[:, event]))
        for ends, came in zip(*parts, strict=True):
            yield self._case(ends, torch.full_like(ends, event), came, torch.zeros(len(ends), device=ends.device))

    def log_odds(self) -> list[float]:
        """By scene and event, that it comes in the game: what to add to logits of a game where half came."""
        absent, came = (self._counts.sum(dim=1).view(-1, 2) + 0.5).log().unbind(dim=1)
        return (came - absent).tolist()

    def _sort(self, ends_n: Tensor, came_n2: Tensor) -> None:
        """Chunks to draw, by group (kind, then whether the event came) and within it by the set of buttons held."""
        recording, device, events = self._source.recording, ends_n.device, len(EVENTS)
        sets = 2 ** recording.actions.shape[1]
        held = held_sets(recording.actions, ends_n, self._source.chunk)
        kind = events * recording.scene[ends_n][:, None] + torch.arange(events, device=device)
        place = ((2 * kind + came_n2) * sets + held[:, None]).flatten()
        order, groups = place.argsort(stable=True), 2 * events * len(recording.scenes)
        self._members, self._held = (x.repeat_interleave(events)[order] for x in (ends_n, held))
        counts = torch.bincount(place, minlength=groups * sets)
        self._counts, self._starts = (x.view(groups, sets) for x in (counts, counts.cumsum(0) - counts))
        self._offsets = offsets_of(self._counts)

    def _pick(self, start_B: Tensor, count_B: Tensor, generator: torch.Generator) -> Tensor:
        """(B,), any of the `count` places from `start` on."""
        draws = torch.rand(len(start_B), device=start_B.device, generator=generator, dtype=torch.float64)
        return start_B + (draws * count_B).long()

    def _case(self, ends_B: Tensor, event_B: Tensor, came_B: Tensor, offset_B: Tensor) -> Case:
        clean, actions = self._source.target(ends_B)
        latents = torch.cat([self._source.past(ends_B), clean], dim=2)
        return Case(latents, actions[:, 0], event_B, came_B.float(), offset_B)
