"""What a player does during one chunk, and the latch that keeps short taps alive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from helios_world.errors import check_name


@dataclass(frozen=True, slots=True)
class Action:
    """The buttons held during one chunk, by the names in `WorldCard.buttons`."""

    buttons: frozenset[str] = frozenset()

    @classmethod
    def of(cls, *buttons: str) -> Action:
        return cls(frozenset(buttons))


NOOP = Action()


class ActionLatch:
    """Inputs that arrive between two chunks, merged into one action.

    A button that was pressed and released again before `take` still counts once.
    """

    def __init__(self) -> None:
        self._held: frozenset[str] = frozenset()
        self._tapped: frozenset[str] = frozenset()

    def put(self, action: Action) -> None:
        """`action` is what is held from now on."""
        self._held = action.buttons
        self._tapped |= action.buttons

    def take(self) -> Action:
        """Everything held since the last `take`; what is still held stays for the next one."""
        action = Action(self._held | self._tapped)
        self._tapped = frozenset()
        return action


def check_buttons(names: Iterable[str], buttons: Sequence[str]) -> frozenset[str]:
    """`names` as a set, or UserError for a name that is not among `buttons`."""
    return frozenset(check_name("button", name, buttons) for name in names)


def encode_actions(actions: Sequence[Action], buttons: Sequence[str], frames: int) -> np.ndarray:
    """Actions held for a whole chunk as the model reads them: float32 (len(actions), frames, len(buttons)), 0 or 1.

    Row t holds what is applied between frame t-1 and frame t.
    Raises:
        UserError: an action names a button that is not in `buttons`.
    """
    rows = np.zeros((len(actions), frames, len(buttons)), np.float32)
    for row, action in zip(rows, actions, strict=True):
        held = check_buttons(action.buttons, buttons)
        row[:, [i for i, button in enumerate(buttons) if button in held]] = 1.0
    return rows
