"""What every controller is: something that picks the action of the next chunk."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from helios_world.action import Action


class Controller(Protocol):
    """Picks one action per chunk."""

    def act(self, frames: np.ndarray | None) -> Action:
        """The action of the next chunk.

        Args:
            frames: uint8 (frames, height, width, 3) of the last chunk; None before the first.
        """
