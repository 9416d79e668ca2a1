"""Gymnasium action spaces for the buttons of a world, and what each of their actions holds down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from gymnasium import spaces

from helios_world.action import Action
from helios_world.errors import UserError, check_name

ACTION_MODES = ("discrete", "multibinary")
Combination = tuple[str, ...]

# gymnasium.utils.play reads key codes; these are SDL's for the keys whose name is not their character.
KEY_CODES = {
    "space": 0x20,
    "return": 0x0D,
    "tab": 0x09,
    "right": 0x4000004F,
    "left": 0x40000050,
    "down": 0x40000051,
    "up": 0x40000052,
    "left ctrl": 0x400000E0,
    "left shift": 0x400000E1,
    "left alt": 0x400000E2,
    "right ctrl": 0x400000E4,
    "right shift": 0x400000E5,
    "right alt": 0x400000E6,
}


def discrete_actions(buttons: Sequence[str]) -> list[Combination]:
    """What each discrete action holds down.

    Action 0 holds nothing; then each button alone, in the card's order; then, in worlds that have `forward`,
    forward with each other button except `back`.
    """
    singles = [(button,) for button in buttons]
    walks = [("forward", other) for other in buttons if other not in ("forward", "back")]
    return [(), *singles, *(walks if "forward" in buttons else [])]


class ButtonSpace:
    """The action space of one mode, and its actions as `Action` values.

    Attributes:
        space: `Discrete(len(meanings))`, or `MultiBinary(len(buttons))` in the card's order of buttons.
        meanings: name of each discrete action ("noop", "forward", "forward+turn_left", ...), or the buttons.
    """

    def __init__(self, buttons: Sequence[str], mode: str):
        check_name("action_mode", mode, ACTION_MODES)
        self._buttons = tuple(buttons)
        self._combinations = discrete_actions(buttons)
        self._discrete = mode == "discrete"
        self.space: spaces.Space[Any]
        if self._discrete:
            self.space = spaces.Discrete(len(self._combinations))
            self.meanings = ["+".join(held) or "noop" for held in self._combinations]
        else:
            self.space = spaces.MultiBinary(len(self._buttons))
            self.meanings = list(self._buttons)

    def decode(self, action: Any) -> Action:
        """The buttons that `action` holds. UserError for one outside `space`."""
        if self._discrete:
            if not self.space.contains(action):
                raise UserError(f"action {action!r}: must be an integer from 0 to {len(self._combinations) - 1}")
            return Action.of(*self._combinations[int(action)])
        if np.shape(action) != self.space.shape or not self.space.contains(np.asarray(action)):
            raise UserError(f"action {action!r}: must be {len(self._buttons)} values, each 0 or 1")
        return Action.of(*(b for b, held in zip(self._buttons, np.asarray(action), strict=True) if held))

    def encode(self, held: frozenset[str]) -> Any | None:
        """The action that holds exactly `held`, or None when no action does."""
        if not self._discrete:
            return np.array([button in held for button in self._buttons], np.int8)
        wanted = [i for i, combination in enumerate(self._combinations) if frozenset(combination) == held]
        return wanted[0] if wanted else None

    def keys_to_action(self, bindings: Mapping[str, str]) -> dict[tuple[int, ...], Any]:
        """Key codes held together to the action they mean: one key, or two for two different buttons."""
        keys = {_key_code(key): button for key, button in bindings.items() if len(key) == 1 or key in KEY_CODES}
        groups = [(code,) for code in keys] + [pair for pair in combinations(keys, 2) if keys[pair[0]] != keys[pair[1]]]
        actions = {tuple(sorted(group)): self.encode(frozenset(keys[code] for code in group)) for group in groups}
        return {group: action for group, action in actions.items() if action is not None}


def _key_code(key: str) -> int:
    return ord(key) if len(key) == 1 else KEY_CODES[key]
