"""Actions written down beforehand: one line per stretch, `CHUNKS BUTTON BUTTON ...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helios_world.action import Action, check_buttons
from helios_world.errors import UserError

# For when nobody is at the keyboard: 44 chunks, which is 10 s at 17.5 frames per second and 4 frames a chunk.
DEFAULT_SCRIPT = """
8 forward
5 turn_left
6 forward
5 turn_right
4 forward turn_right
6 forward
5 turn_left
3 forward turn_left
2
"""
LONGEST = 100_000  # chunks in one line; more is a slip of the finger


def parse_script(text: str, buttons: Sequence[str], source: str = "script") -> list[tuple[int, Action]]:
    """(chunks, action) for each line; `#` starts a comment, a line without buttons waits.

    Args:
        source: what to call the text in an error.
    Raises:
        UserError: naming the source, the line and what is allowed.
    """
    steps: list[tuple[int, Action]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        where = f"{source}, line {number}"
        if not (words[0].isascii() and words[0].isdigit() and 1 <= int(words[0]) <= LONGEST):
            raise UserError(
                f"{where}: starts with {words[0]!r}: must be how many chunks (1 to {LONGEST}), then buttons"
            )
        try:
            steps.append((int(words[0]), Action(check_buttons(words[1:], buttons))))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    if not steps:
        raise UserError(f"{source}: holds no line such as '12 forward turn_left' (chunks, then buttons)")
    return steps


def read_script(path: Path, buttons: Sequence[str]) -> list[tuple[int, Action]]:
    """The script in a file; UserError if it cannot be read or is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(f"cannot read script {path}: {reason}") from None
    return parse_script(text, buttons, str(path))


class ScriptController:
    """Plays a script, and starts over at its end."""

    def __init__(self, steps: Sequence[tuple[int, Action]]):
        self._actions = [action for chunks, action in steps for _ in range(chunks)]
        self._next = 0

    @classmethod
    def default(cls, buttons: Sequence[str]) -> ScriptController:
        """Walks and turns both ways; buttons that the world lacks are not held."""
        every = {word for line in DEFAULT_SCRIPT.split("\n") for word in line.split()[1:]} | set(buttons)
        steps = parse_script(DEFAULT_SCRIPT, sorted(every), "built-in script")
        known = frozenset(buttons)
        return cls([(chunks, Action(action.buttons & known)) for chunks, action in steps])

    def act(self, frames: np.ndarray | None) -> Action:
        action = self._actions[self._next % len(self._actions)]
        self._next += 1
        return action
