"""The line in which a player writes what the world is to show. No pygame: characters and names of keys."""

from __future__ import annotations

LONGEST = 2000  # characters


class PromptLine:
    """Closed until `open`; while it is open all keys are its own.

    Attributes:
        text: what is written so far; None while closed.
    """

    def __init__(self) -> None:
        self.text: str | None = None

    def open(self) -> None:
        """An empty line."""
        self.text = ""

    def write(self, characters: str) -> None:
        """Appends what was typed; nothing while closed."""
        if self.text is not None:
            self.text = (self.text + characters)[:LONGEST]

    def press(self, key: str) -> str | None:
        """A key by pygame's name. Returns the prompt when it is finished; backspace and escape do what they say."""
        finished = None
        if key in ("return", "enter"):
            finished, self.text = (self.text or "").strip() or None, None
        elif key == "escape":
            self.text = None
        elif key == "backspace":
            self.text = (self.text or "")[:-1]
        return finished
