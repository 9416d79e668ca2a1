"""Who plays the maze to be learnt from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from helios_world.training.game import View, buttons_of


class Walker:
    """A player that gets around: walks towards open space, looks about, strafes, stands still, fumbles.

    A random walker stares at walls; this one reads the depth buffer, and still holds every button in every mixture.
    """

    NEAR = 9.0  # depth units; walls closer than this are turned away from

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._plan: Iterator[np.ndarray] = iter(())
        self._dodge = 0  # -1 turning left, 1 turning right, 0 walking
        self._exploring = False

    def act(self, view: View) -> np.ndarray:
        """Buttons for the next frame, uint8 (7,)."""
        buttons = next(self._plan, None)
        while buttons is None:
            self._plan = self._intend()
            buttons = next(self._plan, None)
        return self._steer(buttons.copy(), view) if buttons[0] and self._exploring else buttons

    def _intend(self) -> Iterator[np.ndarray]:
        """The next few frames' buttons."""
        rng, kind = self._rng, self._rng.random()
        self._exploring = kind < 0.6
        if self._exploring:
            turn = rng.choice([0, -1, 1], p=[0.6, 0.2, 0.2])
            return iter([buttons_of(1, _rare(rng, 0.12), turn, rng.random() < 0.04)] * int(rng.integers(2, 13)))
        if kind < 0.72:
            return iter([buttons_of(0, 0, rng.choice([-1, 1]), False)] * int(rng.integers(3, 31)))
        if kind < 0.79:
            return iter([buttons_of(0, 0, 0, False)] * int(rng.integers(3, 13)))
        axes = [int(rng.choice([-1, 0, 1], p=p)) for p in ([0.3, 0.3, 0.4], [0.25, 0.5, 0.25], [0.3, 0.4, 0.3])]
        return iter([buttons_of(*axes, rng.random() < 0.15)] * int(rng.integers(1, 11)))

    def _steer(self, buttons: np.ndarray, view: View) -> np.ndarray:
        left, ahead, right = view.reach
        if ahead > 1.5 * self.NEAR:
            self._dodge = 0
        elif ahead < self.NEAR and not self._dodge:
            self._dodge = -1 if left > right else 1
        if self._dodge:
            buttons[[4, 5]] = (self._dodge < 0, self._dodge > 0)
        return buttons


def _rare(rng: np.random.Generator, p: float) -> int:
    return int(rng.choice([-1, 0, 1], p=[p / 2, 1 - p, p / 2]))
