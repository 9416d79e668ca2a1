"""What moving the mouse does in a world: a button for each direction, held for a frame per so many counts.

Movements are (x, y) in counts, as a mouse reports them: right and down are positive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helios_world.errors import PackError, check_name

Movement = tuple[float, float]
STILL: Movement = (0.0, 0.0)
LEAST, MOST = 0.001, 1e6  # counts for a frame
_DIRECTIONS = (("left", "right"), ("up", "down"))


@dataclass(frozen=True, slots=True)
class Mouse:
    """The mouse of a world.

    Attributes:
        counts: of movement that hold a button for one frame; 0.001 to 1,000,000.
        left, right, up, down: the button that moving there holds; "" for none.
    """

    counts: float
    left: str = ""
    right: str = ""
    up: str = ""
    down: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], buttons: Sequence[str]) -> Mouse:
        """As world.json holds it. PackError for anything else, UserError for a button that is not among `buttons`."""
        try:
            mouse = cls(**values)
            if not LEAST <= mouse.counts <= MOST:
                raise ValueError(f"counts is {mouse.counts}: must be from {LEAST} to {MOST}")
        except (TypeError, ValueError) as error:
            raise PackError(f"mouse is damaged ({error})") from None
        for button in filter(None, (mouse.left, mouse.right, mouse.up, mouse.down)):
            check_name("button", button, buttons)
        return mouse

    def to_dict(self) -> dict[str, Any]:
        """The inverse of `from_dict`; directions without a button are left out."""
        found = {name: getattr(self, name) for pair in _DIRECTIONS for name in pair if getattr(self, name)}
        return {"counts": self.counts, **found}

    def held(self, movement: Movement, frames: int) -> dict[str, int]:
        """Buttons that a movement holds, and for how many of a chunk's `frames`; parts of a frame are left out."""
        found: dict[str, int] = {}
        for distance, names in zip(movement, _DIRECTIONS, strict=True):
            button = getattr(self, names[distance > 0])
            count = self._whole(distance, frames)
            if button and count:
                found[button] = count
        return found

    def due(self, movement: Movement, frames: int) -> Movement:
        """What of a movement one chunk of `frames` takes: whole frames, so that slow movements add up to one."""
        return tuple((1 if distance > 0 else -1) * self.counts * self._whole(distance, frames) for distance in movement)

    def _whole(self, distance: float, frames: int) -> int:
        """Whole frames that a distance is worth, of so many at most."""
        return min(int(abs(distance) / self.counts), frames)
