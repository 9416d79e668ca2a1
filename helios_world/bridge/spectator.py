"""`Spectator`: a session that somebody else plays, watched in real time. It hears, and says nothing."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import zmq

from helios_world.bridge import codecs, protocol
from helios_world.bridge.client import open_socket
from helios_world.bridge.keys import ClientKeys
from helios_world.bridge.line import Line
from helios_world.bridge.player import ChunkPlayer, Shown
from helios_world.bridge.stats import StreamStats, percentiles
from helios_world.card import WorldCard
from helios_world.errors import ProtocolError, UserError

HIGH_WATER = 8  # messages that may wait: who falls behind by more loses frames, as every spectator may
_RECENT = 512  # measurements kept


class Spectator:
    """Shows the session called `name`, as its player got it from `invite("watch")`.

    To a front end it is a `WorldStream` without a hand: `tick` and `wait` are the same, and what is held has no effect.
    The score counts from the chunk that was seen first.

    Args:
        address: of the server's port for spectators, `Welcome.broadcast`; it need not be there yet.
        keys: for a server that asks for them.
        clock: monotonic, in seconds; the one that sleeping is measured with.
    Raises:
        UserError: malformed address or name.

    Attributes:
        card, message: as a `WorldStream` has them.
    """

    def __init__(
        self,
        address: str,
        name: str,
        *,
        keys: ClientKeys | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        if not re.fullmatch(f"[0-9a-f]{{{protocol.NAME_LENGTH}}}", name):
            raise UserError(f"{name!r} names no session: must be {protocol.NAME_LENGTH} characters of 0-9a-f")
        self._address, self._clock = address, clock
        self.card: WorldCard | None = None
        self.message = f"waiting for {address}"
        self.saved: bytes | None = None
        self.saves = self.seq = 0
        self.steer: Any = None
        self.invitation = None
        self._player: ChunkPlayer | None = None
        self._index = -1  # of the newest chunk
        self._last: Shown | None = None
        self._lost = False
        self._shown_at: deque[float] = deque(maxlen=_RECENT)
        self._seconds: deque[float] = deque(maxlen=_RECENT)
        self._line = Line(open_socket(address, keys, kind=zmq.SUB))
        self._line.socket.rcvhwm = HIGH_WATER
        self._line.socket.subscribe(name)

    def start(self, *world: Any) -> None:
        """The player starts worlds; nothing happens."""

    def hold(self, buttons: Iterable[str]) -> None:
        """The player holds buttons; nothing happens."""

    def tick(self) -> Shown | None:
        """The frame due now; the last one while none is, None before the first."""
        now = self._clock()
        while self._line.broke():
            self._lost = self._last is not None
            self.message = f"lost the server at {self._address}: waiting for it"
        while (message := self._receive()) is not None:
            self._take(message, now)
        return self._show(now)

    def wait(self, timeout: float) -> None:
        """Sleeps until `tick` may have something new to show, or until `timeout` seconds have passed."""
        now = self._clock()
        until = now + timeout
        if self._player is not None:
            until = min(until, self._player.next_event(now))
        self._line.wait(math.ceil(max(0.0, until - now) * 1000))

    @property
    def status(self) -> str:
        """ "connecting" until the first frame came, then "playing" or "lost"."""
        if self._lost:
            return "lost"
        return "connecting" if self._last is None else "playing"

    @property
    def stats(self) -> StreamStats:
        """What was measured lately; a spectator asks for nothing, so nothing is measured of answers."""
        recent = [t for t in self._shown_at if t > self._clock() - 2.0]
        nothing = (math.nan, math.nan)
        return StreamStats(len(recent) / 2.0, *percentiles(self._seconds), *nothing, *nothing, 0)

    def close(self) -> None:
        """Ends the connection."""
        self._line.close()

    def _receive(self) -> protocol.Message | None:
        while True:
            try:
                return protocol.decode_single(self._line.socket.recv(zmq.DONTWAIT))
            except zmq.Again:
                return None
            except ProtocolError as error:
                self.message = f"{self._address} sent what is no message: {error}"

    def _take(self, message: protocol.Message, now: float) -> None:
        if isinstance(message, protocol.Welcome) and message.card != self.card:
            self.card, self._index = message.card, -1
            self._player = ChunkPlayer(message.card.fps, message.card.frames_per_chunk)
        if not isinstance(message, protocol.Frames) or self._player is None or message.index == self._index:
            return
        if message.index < self._index:  # another world
            self._player.reset(message.index)
        elif self._player.has_next:  # an agent that waits for no clock
            self._player.reset(message.index, self._player.score)
        self._index, self._lost, self.message = message.index, False, ""
        self._seconds.append(message.seconds)
        self._player.put(message.index, codecs.unpack_frames(message), now, outcome=message.outcome)

    def _show(self, now: float) -> Shown | None:
        shown = None if self._player is None else self._player.frame(now)
        if shown is None:
            return self._last
        if shown.is_new:
            self._shown_at.append(now)
        self._last = shown
        return shown
