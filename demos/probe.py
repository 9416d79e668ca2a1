"""The real window with a stopwatch on it: from a key's moment to the picture that its chunk made."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import pygame

from helios_world.demos.window import Window


class ProbedWindow(Window):
    """A window that notes how long each key press took to be seen.

    Attributes:
        latencies: seconds from when a key went down to when a picture that includes it was on screen.
    """

    def __init__(self, link: Any, **options: Any):
        self.latencies: list[float] = []
        self._pressed: deque[tuple[int, float]] = deque()  # number of the input, when it happened
        super().__init__(link, **options)

    def post(self, name: str, down: bool, when: float) -> None:
        """A key goes down or up, `when` on time.monotonic's clock: what a hand would have done then."""
        kind = pygame.KEYDOWN if down else pygame.KEYUP
        pygame.event.post(pygame.event.Event(kind, key=pygame.key.key_code(name), mod=0, when=when))

    def handle(self, event: pygame.event.Event) -> None:
        super().handle(event)
        if event.type == pygame.KEYDOWN and hasattr(event, "when") and self.link.status == "playing":
            self._pressed.append((self.link.stream.seq, event.when))

    def draw(self, now: float) -> bool:
        drew = super().draw(now)
        if self.shown is not None:
            while self._pressed and self._pressed[0][0] <= self.shown.seq:
                self.latencies.append(time.monotonic() - self._pressed.popleft()[1])
        return drew
