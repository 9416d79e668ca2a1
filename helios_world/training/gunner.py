"""Who plays the arena to be learnt from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from helios_world.training.game import View, buttons_of


class Gunner:
    """A player that turns to the nearest monster and shoots, mostly; it also looks about, stands still, and fumbles.

    One that always aimed well would never be seen to miss or to die.
    """

    AIMED = 6.0  # pixels; monsters closer to the middle than this are shot at

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._plan: Iterator[np.ndarray | None] = iter(())
        self._search = 1  # where it turns while it sees no monster

    def act(self, view: View) -> np.ndarray:
        """Buttons for the next frame, uint8 (7,)."""
        for buttons in self._plan:
            return self._aim(view) if buttons is None else buttons
        self._plan = self._intend()
        return self.act(view)

    def _intend(self) -> Iterator[np.ndarray | None]:
        """The next few frames' buttons, None to aim."""
        rng, kind = self._rng, self._rng.random()
        if kind < 0.5:
            self._search = int(rng.choice([-1, 1]))
            return iter([None] * int(rng.integers(10, 50)))
        if kind < 0.65:
            return iter([buttons_of(0, 0, rng.choice([-1, 1]), rng.random() < 0.2)] * int(rng.integers(3, 31)))
        if kind < 0.8:
            return iter([buttons_of(0, 0, 0, False)] * int(rng.integers(3, 50)))
        ahead, aside, turn = (int(rng.choice([-1, 0, 1], p=[0.3, 0.4, 0.3])) for _ in range(3))
        return iter([buttons_of(ahead, aside, turn, rng.random() < 0.4)] * int(rng.integers(1, 11)))

    def _aim(self, view: View) -> np.ndarray:
        if view.target is None:
            return buttons_of(0, 0, self._search, False)
        aimed = abs(view.target) < self.AIMED
        return buttons_of(0, 0, 0 if aimed else int(np.sign(view.target)), aimed)
