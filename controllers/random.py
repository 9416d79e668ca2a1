"""A walk that looks around: a button combination is kept for several chunks, then another is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helios_world.action import Action
from helios_world.errors import UserError

# weight, buttons; combinations with a button that the world lacks are left out
WALK: tuple[tuple[float, tuple[str, ...]], ...] = (
    (6.0, ("forward",)),
    (2.5, ("forward", "turn_left")),
    (2.5, ("forward", "turn_right")),
    (1.5, ("turn_left",)),
    (1.5, ("turn_right",)),
    (0.5, ("strafe_left",)),
    (0.5, ("strafe_right",)),
    (0.4, ("forward", "attack")),
    (0.3, ("back",)),
    (0.3, ()),
)
SHORTEST, LONGEST = 2, 9  # chunks that a combination is kept, the longest excluded


class RandomController:
    """Mostly forward, often turning. The same seed makes the same walk."""

    def __init__(self, buttons: Sequence[str], seed: int):
        if seed < 0:
            raise UserError(f"seed is {seed}: must be 0 or more")
        known = set(buttons)
        walk = [(weight, combination) for weight, combination in WALK if known.issuperset(combination)]
        # A world with other buttons altogether still gets moved: each of them alone, beside doing nothing.
        if len(walk) == 1:
            walk += [(1.0, (button,)) for button in buttons]
        weights = np.array([weight for weight, _ in walk])
        self._combinations = [Action(frozenset(combination)) for _, combination in walk]
        self._chances = weights / weights.sum()
        self._rng = np.random.default_rng(seed)
        self._left = 0
        self._action = Action()

    def act(self, frames: np.ndarray | None) -> Action:
        if self._left == 0:
            self._action = self._combinations[self._rng.choice(len(self._combinations), p=self._chances)]
            self._left = int(self._rng.integers(SHORTEST, LONGEST))
        self._left -= 1
        return self._action
