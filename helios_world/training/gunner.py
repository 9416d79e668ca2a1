"""Who plays the arena to be learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat

import numpy as np

from helios_world.training.game import CELL, WIDTH, View, buttons_of

Move = Callable[[View], np.ndarray]  # buttons for the next frame, uint8 (7,)
MIDDLE = slice(WIDTH // CELL // 2 - 2, WIDTH // CELL // 2 + 2)  # columns of cells that a shot may hit something in


class Gunner:
    """A player that turns to the nearest monster and shoots, mostly; it also shoots at nothing, looks about, stands
    still, and fumbles.

    One that always aimed well would never be seen to miss or to die.
    """

    AIMED = 6.0  # pixels; monsters closer to the middle than this are shot at

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._plan: Iterator[Move] = iter(())
        self._search = 1  # where it turns while it sees no monster

    def act(self, view: View) -> np.ndarray:
        """Buttons for the next frame, uint8 (7,)."""
        for move in self._plan:
            return move(view)
        self._plan = self._intend()
        return self.act(view)

    def _intend(self) -> Iterator[Move]:
        """The next few frames' moves."""
        rng, kind = self._rng, self._rng.random()
        if kind < 0.49:
            self._search = int(rng.choice([-1, 1]))
            return repeat(self._aim, int(rng.integers(10, 50)))
        if kind < 0.65:
            return self._waste()
        if kind < 0.74:
            return repeat(_hold(0, 0, rng.choice([-1, 1]), rng.random() < 0.2), int(rng.integers(3, 31)))
        if kind < 0.82:
            return repeat(_hold(0, 0, 0, False), int(rng.integers(3, 50)))
        ahead, aside, turn = (int(rng.choice([-1, 0, 1], p=[0.3, 0.4, 0.3])) for _ in range(3))
        return repeat(_hold(ahead, aside, turn, rng.random() < 0.4), int(rng.integers(1, 11)))

    def _waste(self) -> Iterator[Move]:
        """Looks about, and shoots where no monster is: single shots and bursts."""
        rng = self._rng
        for _ in range(int(rng.integers(1, 4))):
            yield from repeat(_hold(0, 0, rng.choice([-1, 1]), False), int(rng.integers(2, 11)))
            burst = 1 if rng.random() < 0.5 else int(rng.integers(5, 30))
            yield from repeat(partial(_miss, int(rng.choice([-1, 0, 1], p=[0.2, 0.6, 0.2]))), burst)
            yield from repeat(_hold(0, 0, 0, False), int(rng.integers(0, 6)))

    def _aim(self, view: View) -> np.ndarray:
        if view.target is None:
            return buttons_of(0, 0, self._search, False)
        aimed = abs(view.target) < self.AIMED
        return buttons_of(0, 0, 0 if aimed else int(np.sign(view.target)), aimed)


def _hold(ahead: int, aside: int, turn: int, attack: bool) -> Move:
    """The same buttons whatever is seen; see `buttons_of`."""
    buttons = buttons_of(ahead, aside, turn, attack)
    return lambda view: buttons


def _miss(turn: int, view: View) -> np.ndarray:
    """Shoots unless a monster is in the middle."""
    return buttons_of(0, 0, turn, not view.actors[:, MIDDLE].any())
