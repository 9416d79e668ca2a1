"""What a player does during one chunk, and the latch that keeps short taps alive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from helios_world.errors import check_name
from helios_world.mouse import STILL, Mouse, Movement


@dataclass(frozen=True, slots=True)
class Action:
    """The buttons held during one chunk, by the names in `WorldCard.buttons`, and how far the mouse moved meanwhile."""

    buttons: frozenset[str] = frozenset()
    mouse: Movement = STILL

    @classmethod
    def of(cls, *buttons: str) -> Action:
        return cls(frozenset(buttons))


NOOP = Action()


class ActionLatch:
    """Inputs that arrive between two chunks, merged into one action.

    A button that was pressed and released again before `take` still counts once. Movements of the mouse add up; what
    one chunk has no time for goes into the next, but no more than that.

    Args:
        mouse: of the world; without one movements are dropped.
        frames: of a chunk.
    """

    def __init__(self, mouse: Mouse | None = None, frames: int = 1) -> None:
        self._held: frozenset[str] = frozenset()
        self._tapped: frozenset[str] = frozenset()
        self._mouse, self._frames = mouse, frames
        self._at: Movement | None = None
        self._taken = STILL

    def put(self, action: Action) -> None:
        """`action` is what is held from now on."""
        self._held = action.buttons
        self._tapped |= action.buttons

    def point(self, at: Movement) -> None:
        """The mouse is at `at` now. The first call says where it begins."""
        if self._at is None:
            self._taken = at
        self._at = at

    def take(self) -> Action:
        """Everything held since the last `take`; what is still held stays for the next one."""
        action = Action(self._held | self._tapped, self._take_mouse())
        self._tapped = frozenset()
        return action

    def _take_mouse(self) -> Movement:
        if self._mouse is None or self._at is None:
            return STILL
        moved = tuple(at - taken for at, taken in zip(self._at, self._taken, strict=True))
        due = self._mouse.due(moved, self._frames)
        most = self._mouse.counts * self._frames
        left = (max(-most, min(most, whole - part)) for whole, part in zip(moved, due, strict=True))
        self._taken = tuple(at - rest for at, rest in zip(self._at, left, strict=True))
        return due


def check_buttons(names: Iterable[str], buttons: Sequence[str]) -> frozenset[str]:
    """`names` as a set, or UserError for a name that is not among `buttons`."""
    return frozenset(check_name("button", name, buttons) for name in names)


def encode_actions(
    actions: Sequence[Action], buttons: Sequence[str], frames: int, mouse: Mouse | None = None
) -> np.ndarray:
    """Actions as the model reads them: float32 (len(actions), frames, len(buttons)), 0 or 1.

    Row t holds what is applied between frame t-1 and frame t. Buttons are held for the whole chunk; those that the
    mouse holds for some of its frames, spread evenly from the first one on.
    Raises:
        UserError: an action names a button that is not in `buttons`.
    """
    rows = np.zeros((len(actions), frames, len(buttons)), np.float32)
    for row, action in zip(rows, actions, strict=True):
        held = check_buttons(action.buttons, buttons)
        row[:, [i for i, button in enumerate(buttons) if button in held]] = 1.0
        for button, count in (mouse.held(action.mouse, frames) if mouse else {}).items():
            steps = -(-np.arange(frames + 1) * count // frames)
            row[np.diff(steps) > 0, buttons.index(button)] = 1.0
    return rows
