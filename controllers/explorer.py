"""A walk that watches where it goes: forward, until nothing but plain wall is ahead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helios_world.action import Action
from helios_world.drift import contrast
from helios_world.errors import UserError

PLAIN = 12.0  # contrast of what is ahead, in grey levels, under which it is a wall
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
        self._turn, self._left = Action(), 0

    def act(self, frames: np.ndarray | None) -> Action:
        if self._left == 0 and frames is not None:
            blocked = float(contrast(ahead(frames[-1]))) < PLAIN
            if blocked or self._rng.random() < WHIM:
                self._turn = Action.of(("turn_left", "turn_right")[self._rng.integers(2)])
                self._left = int(self._rng.integers(SHORTEST, LONGEST))
        if self._left == 0:
            return Action.of("forward")
        self._left -= 1
        return self._turn


def ahead(frame_HW3: np.ndarray) -> np.ndarray:
    """The middle half of a picture."""
    height, width = frame_HW3.shape[:2]
    return frame_HW3[height // 4 : -(height // 4), width // 4 : -(width // 4)]
