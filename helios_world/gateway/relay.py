"""`Relay`: what one browser and its session of the server say to each other. No socket; time is an argument.

It passes messages on, and keeps ticket and newest snapshot, so that a world goes on where it was when a server died and
another took its place. Requests get numbers of the relay's own, as it has some itself.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from helios_world.bridge import protocol
from helios_world.bridge.patience import lost_after
from helios_world.gateway.wire import LOST, Lost

_PING = 1.0  # seconds between pings
_UNANSWERED = 64  # requests of a browser that may wait
_OWN = -1  # in place of the browser's number: a request of the relay
_FROM_BROWSER = protocol.Request | protocol.Hello | protocol.Act | protocol.Ping | protocol.Close


class Relay:
    """Between a browser and a server, until either `close`s.

    Args:
        autosave: seconds between snapshots.

    Attributes:
        to_server, to_browser: what is to be sent, in order; whoever sends it takes it out.
        is_lost: the connection to the server is of no use: make a new one and say `connected`.
    """

    def __init__(self, *, autosave: float = 2.0):
        self.to_server: deque[protocol.Message] = deque()
        self.to_browser: deque[protocol.Message | Lost] = deque()
        self.is_lost = False
        self._autosave = autosave
        self._hello: protocol.Hello | None = None
        self._snapshot: bytes | None = None  # newest of the world that is there
        self._told = False  # the browser knows that the server is away
        self._request = 0
        self._seconds: deque[float] = deque(maxlen=4)  # that the last chunks took
        self._forget(0.0)

    def connected(self, now: float) -> None:
        """There is a fresh connection, perhaps to a server that is not there yet."""
        self._forget(now)
        if self._hello is not None:
            self.to_server.append(self._hello)

    def lose(self) -> None:
        """The connection broke, or the server is silent."""
        self.is_lost, self._welcomed = True, False
        self.to_server.clear()
        if self._hello is not None and not self._told:
            self._told = True
            self.to_browser.append(LOST)

    def watch(self, now: float) -> None:
        """Finds out whether the server is still there, and tells it that we are; to be called often."""
        if self._hello is None or self.is_lost:
            return
        if now - self._heard_at > self._silence:
            self.lose()
        elif self._welcomed and now - self._pinged_at >= _PING:
            self._pinged_at = now
            self.to_server.append(protocol.Ping(now))

    def browser_said(self, message: protocol.Message, now: float) -> None:
        """Passes `message` on, or answers it. What needs a server that is away is dropped: the browser was told."""
        match message:
            case protocol.Hello():
                self._hello, self._snapshot, self._heard_at = message, None, now
                self._welcomed = False
                if not self.is_lost:
                    self.to_server.append(message)
            case protocol.Ping():  # asks whether the gateway is there; the server is the relay's to watch
                self.to_browser.append(protocol.Pong(message.sent_at))
            case _ if not isinstance(message, _FROM_BROWSER):
                self.to_browser.append(protocol.Error(0, "bad_message", "only a server sends this message"))
            case _ if self._hello is None:
                self._refuse(message, "unknown_session", "say hello first: this connection has no session")
            case protocol.Act() | protocol.Close():
                if self._welcomed:
                    self.to_server.append(message)
            case _ if self._welcomed:
                self._pass_request(message)

    def server_said(self, message: protocol.Message, now: float) -> None:
        """Passes `message` on, unless it answers the relay."""
        self._heard_at = now
        match message:
            case protocol.Welcome() if self._hello is not None:
                self._welcome(message)
            case protocol.Frames() if not message.request:
                self._seconds.append(message.seconds)
                self.to_browser.append(message)
                self._save(now)
            case protocol.Error() if message.code == "unknown_session":
                self.lose()
            case protocol.Frames() | protocol.Done() | protocol.Error() if message.request:
                self._reply(message, now)
            case protocol.Error():
                self.to_browser.append(message)

    def _forget(self, now: float) -> None:
        """Nothing is known of the connection."""
        self.is_lost = self._welcomed = False
        self._waiting: dict[int, tuple[int, type]] = {}  # our number of a request to the browser's, and what it was
        self._back: protocol.Welcome | None = None  # to be passed on once the world is back
        self._heard_at = self._pinged_at = now
        self._saved_at = -math.inf

    @property
    def _silence(self) -> float:
        begins = any(kind in (protocol.Reset, protocol.Restore) for _, kind in self._waiting.values())
        return lost_after(begins or (self._welcomed and not self._seconds), self._seconds)

    def _pass_request(self, message: protocol.Request) -> None:
        if len(self._waiting) >= _UNANSWERED:
            self._refuse(message, "busy", f"{_UNANSWERED} requests wait already")
        else:
            self._ask(message, message.request)

    def _ask(self, message: protocol.Request, number: int) -> None:
        self._request += 1
        self._waiting[self._request] = (number, type(message))
        self.to_server.append(replace(message, request=self._request))

    def _refuse(self, message: protocol.Message, code: str, text: str) -> None:
        self.to_browser.append(protocol.Error(getattr(message, "request", 0), code, text))

    def _save(self, now: float) -> None:
        """Right after a chunk the server has time, so this is when to ask for a snapshot."""
        if now - self._saved_at >= self._autosave and (_OWN, protocol.Snapshot) not in self._waiting.values():
            self._saved_at = now
            self._ask(protocol.Snapshot(0), _OWN)

    def _welcome(self, welcome: protocol.Welcome) -> None:
        self._hello = replace(self._hello, session=welcome.session)
        if welcome.chunk == 0 and self._snapshot is not None:
            self._back = welcome
            self._ask(protocol.Restore(0, self._snapshot), _OWN)
        else:
            self._open(welcome)

    def _open(self, welcome: protocol.Welcome) -> None:
        self._welcomed, self._told, self._back = True, False, None
        self.to_browser.append(welcome)

    def _reply(self, message: protocol.Frames | protocol.Done | protocol.Error, now: float) -> None:
        number, kind = self._waiting.pop(message.request, (_OWN, None))
        done = not isinstance(message, protocol.Error)
        if number != _OWN:
            if done and kind in (protocol.Reset, protocol.Restore):
                self._snapshot, self._saved_at = None, -math.inf
            self.to_browser.append(replace(message, request=number))
            if isinstance(message, protocol.Frames):
                self._save(now)
        elif kind is protocol.Snapshot and done:
            self._snapshot = message.payload
        elif kind is protocol.Restore and self._back is not None:
            self._snapshot = self._snapshot if done else None  # refused: the browser begins again
            self._open(replace(self._back, chunk=message.chunk if done else 0))
