"""What was played, in a file that plays it again: world, scene, seed, number format and one action per chunk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helios_world.action import Action, check_buttons
from helios_world.controllers.base import Controller
from helios_world.errors import UserError
from helios_world.snapshot import write_bytes

FORMAT = "helios-world-replay-1"


@dataclass(frozen=True, slots=True)
class Recording:
    """All that it takes to see the same frames again on the same device.

    Attributes:
        dtype: number format of the generator; another one gives slightly other frames.
        actions: of chunk 1, 2, ...
    """

    world: str
    scene: str
    seed: int
    dtype: str
    actions: tuple[Action, ...] = ()

    def check_buttons(self, buttons: Sequence[str]) -> Recording:
        """Itself, or UserError for an action that the world does not know."""
        for action in self.actions:
            check_buttons(action.buttons, buttons)
        return self

    def write(self, path: Path) -> None:
        """As JSON, all or nothing. UserError where it cannot be written."""
        head = {"format": FORMAT, "world": self.world, "scene": self.scene, "seed": self.seed, "dtype": self.dtype}
        rows = ",\n  ".join(json.dumps(sorted(action.buttons)) for action in self.actions)
        text = json.dumps(head, indent=1)[:-2] + f',\n "actions": [\n  {rows}\n ]\n}}\n'
        try:
            write_bytes(path, text.encode())
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from None

    @classmethod
    def read(cls, path: Path) -> Recording:
        """The recording in a file; UserError if it cannot be read, is damaged or of another format."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"cannot read replay {path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"replay {path} is damaged or not one of ours: {error}") from None
        return cls._from_values(values, path)

    @classmethod
    def _from_values(cls, values: object, path: Path) -> Recording:
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise UserError(f"replay {path} is not of format {FORMAT!r}")
        kinds = {"world": str, "scene": str, "seed": int, "dtype": str, "actions": list}
        for name, kind in kinds.items():
            if not isinstance(values.get(name), kind) or isinstance(values.get(name), bool):
                raise UserError(f"replay {path} is damaged: {name!r} is missing or not of type {kind.__name__}")
        rows = values["actions"]
        if not all(isinstance(row, list) and all(isinstance(button, str) for button in row) for row in rows):
            raise UserError(f"replay {path} is damaged: 'actions' must be lists of button names")
        actions = tuple(Action(frozenset(row)) for row in rows)
        return cls(values["world"], values["scene"], values["seed"], values["dtype"], actions)


class Recorder:
    """Another controller, with every action kept."""

    def __init__(self, controller: Controller, *, world: str, scene: str, seed: int, dtype: str):
        self._controller = controller
        self._head = (world, scene, seed, dtype)
        self._actions: list[Action] = []

    @property
    def recording(self) -> Recording:
        """What has been played so far."""
        return Recording(*self._head, tuple(self._actions))

    def act(self, frames: np.ndarray | None) -> Action:
        action = self._controller.act(frames)
        self._actions.append(action)
        return action


class Replay:
    """The actions of a recording; holds nothing after its end."""

    def __init__(self, recording: Recording):
        self._actions = recording.actions
        self._next = 0

    def act(self, frames: np.ndarray | None) -> Action:
        done = self._next >= len(self._actions)
        action = Action() if done else self._actions[self._next]
        self._next += 1
        return action
