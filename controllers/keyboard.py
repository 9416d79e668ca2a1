"""A keyboard as a controller. Told about keys by whoever reads them; needs no window."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from helios_world.action import Action, ActionLatch


class Keyboard:
    """Keys going down and up, as buttons held. A tap shorter than a chunk still counts for one chunk."""

    def __init__(self, bindings: Mapping[str, str]):
        self._bindings = dict(bindings)
        self._down: set[str] = set()
        self._latch = ActionLatch()

    @property
    def held(self) -> frozenset[str]:
        """Buttons held right now. A button stays held until the last of its keys is up."""
        return frozenset(self._bindings[key] for key in self._down)

    def press(self, key: str) -> None:
        """A key goes down; one without a binding does nothing."""
        if key in self._bindings:
            self._down.add(key)
            self._latch.put(Action(self.held))

    def release(self, key: str) -> None:
        """A key goes up."""
        self._down.discard(key)
        self._latch.put(Action(self.held))

    def release_all(self) -> None:
        """Every key goes up: what must happen when the window loses the keyboard."""
        self._down.clear()
        self._latch.put(Action())

    def act(self, frames: np.ndarray | None) -> Action:
        return self._latch.take()
