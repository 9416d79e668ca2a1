"""A walk that watches where it goes: forward, until nothing but plain wall is ahead, or nothing moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helios_world.action import Action
from helios_world.drift import contrast
from helios_world.errors import UserError

PLAIN = 12.0  # contrast of what is ahead, in grey levels, under which it is a wall
STILL, STOOD = 0.45, 2  # change over contrast under which so many chunks of walking tell that something is in the way
WHIM = 0.04  # chance to turn although the way is free
SHORTEST, LONGEST = 3, 9  # chunks of a turn, the longest excluded


class ExplorerController:
    """Walks by what it sees, in whatever world: the same seed and the same frames make the same walk."""

    def __init__(self, buttons: Sequence[str], seed: int):
        missing = {"forward", "turn_left", "turn_right"} - set(buttons)
        if missing:
            raise UserError(
                f"controller 'explorer' needs the button {min(missing)}: this world has {', '.join(buttons)}"
            )
        self._rng = np.random.default_rng(seed)
        self._turn, self._left = Action(), 0  # and for how many chunks yet
        self._stood = 0  # chunks of walking, lately, in which nothing moved

    def act(self, frames: np.ndarray | None) -> Action:
        if self._left == 0 and frames is not None:
            self._stood = self._stood + 1 if stands_still(frames) else 0
            blocked = float(contrast(ahead(frames[-1]))) < PLAIN or self._stood >= STOOD
            if blocked or self._rng.random() < WHIM:
                self._turn = Action.of(("turn_left", "turn_right")[self._rng.integers(2)])
                self._left, self._stood = int(self._rng.integers(SHORTEST, LONGEST)), 0
        if self._left == 0:
            return Action.of("forward")
        self._left -= 1
        return self._turn


def stands_still(frames_THW3: np.ndarray) -> bool:
    """Whether the last frame shows nearly what the first did; walking into a wall, the view bobs. One tells nothing."""
    change = np.abs(frames_THW3[-1].astype(np.int16) - frames_THW3[0]).mean()
    return len(frames_THW3) > 1 and bool(change < STILL * contrast(frames_THW3[-1]))


def ahead(frame_HW3: np.ndarray) -> np.ndarray:
    """The middle half of a picture."""
    height, width = frame_HW3.shape[:2]
    return frame_HW3[height // 4 : -(height // 4), width // 4 : -(width // 4)]
