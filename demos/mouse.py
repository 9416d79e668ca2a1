"""The mouse in the window: a click catches it, then its movements are the world's; Esc lets it go."""

from __future__ import annotations

import pygame

from helios_world.mouse import Movement


class CaughtMouse:
    """The mouse while the window has it: unseen, and without an end to its way."""

    def __init__(self) -> None:
        self.caught = False

    def catch(self, caught: bool) -> None:
        """Takes the mouse, or lets it go."""
        if caught != self.caught:
            self.caught = caught
            pygame.mouse.set_relative_mode(caught)

    def movement(self, event: pygame.event.Event) -> Movement | None:
        """How far the mouse moved, if it did and is ours."""
        return event.rel if self.caught and event.type == pygame.MOUSEMOTION else None
