"""What a game has come to so far: the rewards of its chunks added up, and whether it is over. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from helios_world.world import Outcome


@dataclass(frozen=True, slots=True)
class Score:
    """After some chunk of a world; as it is by default at its start, and always where there are no outcomes.

    Attributes:
        total: sum of the rewards.
        over: the game ended in that chunk or before.
    """

    total: float = 0.0
    over: bool = False

    def after(self, outcome: Outcome | None) -> Score:
        """One chunk later."""
        return self if outcome is None else Score(self.total + outcome.reward, self.over or outcome.terminated)

    def __str__(self) -> str:
        return f"{round(self.total, 2) + 0.0:.12g}"  # never -0
