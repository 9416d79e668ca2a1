"""How long a client waits in silence before it tries its line anew. Pure; times are in seconds.

A line that says nothing may be dead, or the server may be slow: what it took to answer lately tells them apart. Trying
anew loses nothing, since the ticket finds the session; but over a narrow line it throws away what is half there, so
each try that brought nothing makes the next wait longer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

SILENCE = 1.5  # without a word, after which we say that the server is lost; slow worlds get three chunks more
BEGINNING = 300.0  # that the first chunks may take, while nothing tells how slow the world is
MOST = 5.0  # that the wait in silence grows to; that for something asked for, from a server that talks, grows on
_LEAST = 0.4
_TIMES = 2.0  # what it took lately, so many times, is waited for on top
_UNKNOWN = 0.55  # that it took, while nothing is known
_GROWTH = 1.5  # of the wait with each try


class Patience:
    """Learns from answers how long silence may last."""

    def __init__(self) -> None:
        self._greeting: float | None = None  # the quickest: others may have waited for a server to come
        self._trips: deque[float] = deque(maxlen=8)
        self._tries = 0

    def greeted(self, after: float) -> None:
        """A new line brought a welcome."""
        self._greeting = after if self._greeting is None else min(self._greeting, after)

    def answered(self, after: float) -> None:
        """A chunk that was asked for came."""
        self._trips.append(after)
        self._tries = 0

    def tried(self) -> None:
        """The line was given up and another one opened."""
        self._tries += 1

    def limit(self, *, greeted: bool, most: float = MOST) -> float:
        """Silence, or waiting for what was asked for, that says that the line is dead.

        Args:
            greeted: this line has brought a welcome already.
            most: that tries make it grow to.
        """
        known = max(self._trips, default=None) if greeted else self._greeting
        usual = _LEAST + _TIMES * (_UNKNOWN if known is None else known)
        return max(usual, min(usual * _GROWTH ** min(self._tries, 99), most))


def lost_after(begins: bool, seconds: Iterable[float]) -> float:
    """Seconds without a word after which a server counts as lost: a slow world answers late.

    Args:
        begins: a world is being started, or has made no chunk yet.
        seconds: that its last chunks took.
    """
    return BEGINNING if begins else SILENCE + 3 * max(seconds, default=0.0)
