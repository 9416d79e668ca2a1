"""Which frame to show now, and when to ask for the next chunk. Pure: time is an argument, in seconds.

Frames arrive a chunk at a time and are shown evenly. A chunk is asked for at the last moment from which it still
arrives before it is due, because an input that comes after the asking waits for the chunk after. What the chunks came
to adds up to a score.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from helios_world.bridge.score import Score
from helios_world.world import Outcome

_RECENT = 64  # round trips that the lead is learnt from
_QUANTILE = 0.9  # of them that must be in time even without the margin; a little lateness is made up unseen
_MARGIN = 0.003  # seconds
_SPREAD = 0.15  # part of (quantile - median) added to the margin: ragged round trips get more of it
_POLL = 0.02  # seconds that an asking may come late because the caller polls; anything longer was a stall
_CATCH_UP = 0.02  # part of a chunk's time that it is shortened by until lateness is made up: too little to see
_STALL = 0.25  # seconds; who was later than this goes on at the usual pace
_RETRY = 1.0  # seconds after which an unanswered asking is repeated


@dataclass(frozen=True, slots=True)
class Shown:
    """The frame due now.

    Attributes:
        pixels: uint8 (height, width, 3).
        chunk, index: which chunk, and which of its frames.
        is_new: False if the last call gave the same frame.
        seq: the tag of the chunk; in a stream, the newest input that it includes.
        score: with this chunk.
    """

    pixels: np.ndarray
    chunk: int
    index: int
    is_new: bool
    seq: Any
    score: Score = Score()


@dataclass(slots=True)
class _Playing:
    chunk: int
    frames: np.ndarray
    begins: float
    ends: float
    tag: Any
    score: Score


class ChunkPlayer:
    """Paces the frames of one session, and asks for its chunks one at a time.

    Args:
        fps: frames per second to show.
        frames_per_chunk: of the world; only used to guess how long the first chunk may take.

    Attributes:
        score: with the newest chunk that came. Once it is over, no chunk is asked for.
    """

    def __init__(self, fps: float, frames_per_chunk: int):
        self._step = 1.0 / fps
        self._trips: deque[float] = deque(maxlen=_RECENT)
        self.lead = (
            0.5 * frames_per_chunk / fps
        )  # seconds before it is due that a chunk is asked for; a guess until learnt
        self.late_chunks = 0
        self.reset()

    def reset(self, next_chunk: int = 0, score: Score = Score()) -> None:
        """Forgets all frames and any asking; what was learnt about round trips stays.

        Args:
            next_chunk: the one to ask for next, at once; 0: wait for the chunk that a world starts from.
            score: before that chunk.
        """
        self.score = score
        self._now: _Playing | None = None
        self._then: _Playing | None = None
        self._next = next_chunk
        self._seen: tuple[int, int] | None = None
        self._asked_at: float | None = None
        self._planned = 0.0
        self._put_at = 0.0
        self._behind = 0.0

    def put(
        self, chunk_index: int, frames: np.ndarray, now: float, tag: Any = None, outcome: Outcome | None = None
    ) -> bool:
        """A chunk came: (frames, height, width, 3). False if it is no newer than one that came before.

        A chunk that comes late begins now. What was lost is made up over the next chunks, too slowly to be seen.
        """
        if chunk_index < self._next:
            return False
        if self._asked_at is not None:
            self._trips.append(now - self._planned)
            middle, high = np.quantile(self._trips, [0.5, _QUANTILE])
            self.lead = float(high + _MARGIN + _SPREAD * (high - middle))
        self._asked_at = None
        due = self._due(now)
        begins = max(due, now)
        self.late_chunks += begins > due
        self._behind += begins - due if begins - due < _STALL else 0.0
        lasts = len(frames) * self._step
        made_up = min(self._behind, _CATCH_UP * lasts)
        self._behind -= made_up
        self.score = self.score.after(outcome)
        playing = _Playing(chunk_index, frames, begins, begins + lasts - made_up, tag, self.score)
        if self._now is None or now >= due:
            self._now, self._then = playing, None
        else:
            self._then = playing
        self._next, self._put_at = chunk_index + 1, now
        return True

    @property
    def has_next(self) -> bool:
        """Whether a chunk waits for the one on show to end."""
        return self._then is not None

    def frame(self, now: float) -> Shown | None:
        """The frame due at `now`; the last one again while the next is not there; None before the first."""
        if self._then is not None and now >= self._then.begins:
            self._now, self._then = self._then, None
        playing = self._now
        if playing is None:
            return None
        # 1e-9: k / fps times fps may fall just short of k
        index = min(max(int((now - playing.begins) / self._step + 1e-9), 0), len(playing.frames) - 1)
        is_new = self._seen != (playing.chunk, index)
        self._seen = (playing.chunk, index)
        return Shown(playing.frames[index], playing.chunk, index, is_new, playing.tag, playing.score)

    def wants_chunk(self, now: float) -> int:
        """Index of the chunk to ask for now, or 0. Say `asked` once the asking is on its way."""
        return self._next if now >= self._ask_time(now) else 0

    def asked(self, index: int, now: float) -> None:
        """Chunk `index` was asked for."""
        if self._asked_at is None:
            # From the moment it should have gone out, so that the lead also covers how often the caller looks.
            self._planned = max(self._planned_time(now), now - _POLL)
        self._asked_at = now

    def next_event(self, now: float) -> float:
        """The earliest time at which `frame` or `wants_chunk` may say something new without another `put`."""
        events = [self._ask_time(now)]
        if self._then is not None:
            events.append(self._then.begins)
        playing = self._now
        if playing is not None:
            index = int((now - playing.begins) / self._step + 1e-9) + 1
            if index < len(playing.frames):
                events.append(playing.begins + max(index, 1) * self._step)
        return min(events)

    def _due(self, now: float) -> float:
        """When the frames that are there end."""
        last = self._then or self._now
        return now if last is None else last.ends

    def _planned_time(self, now: float) -> float:
        return now if self._now is None else max(self._due(now) - self.lead, self._put_at)

    def _ask_time(self, now: float) -> float:
        if not self._next or self.score.over:
            return math.inf
        if self._asked_at is not None:
            return self._asked_at + max(_RETRY, 3 * self.lead)
        if self._then is not None:  # two chunks ahead would make inputs wait
            return max(self._then.begins, self._planned_time(now))
        return self._planned_time(now)
