"""Clients of a soak: they come, do what clients do, and go, some without a word. All in one thread; none ever waits."""

from __future__ import annotations

import contextlib
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import zmq

from helios_world.action import Action
from helios_world.bridge import protocol
from helios_world.bridge.client import close_socket, open_socket
from helios_world.bridge.stream import WorldStream
from helios_world.engine import Session
from helios_world.errors import HeliosWorldError

PATIENCE = 20.0  # seconds without an answer that are a fault, even where the machine is busy with other things


@dataclass
class Tally:
    """What the visitors saw.

    Attributes:
        visits: by kind, and how they ended or went on.
        faults: what must not happen, and how often it did.
        ages: seconds from when a frame was made to when it was here.
        answers: seconds from asking for a step to having it.
    """

    visits: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    ages: array[float] = field(default_factory=lambda: array("f"))
    answers: array[float] = field(default_factory=lambda: array("f"))


@dataclass
class Town:
    """Where all visitors go: `twin(seed)` is a local session whose raw frames theirs must equal, or None."""

    address: str
    random: Random
    tally: Tally
    twin: Callable[[int], Session | None]


class _Stream(WorldStream):
    """Tells the age of each chunk that comes, and can lose its line."""

    def __init__(self, address: str, ages: array[float]):
        super().__init__(address)
        self._ages = ages

    def _take(self, message: protocol.Frames, now: float) -> None:
        self._ages.append(time.monotonic() - message.made_at)
        super()._take(message, now)

    def drop(self) -> None:
        """The line breaks; the stream goes back by its ticket."""
        self._had = self._ticket
        self._lose(time.monotonic(), "the line broke")

    @property
    def has_its_world(self) -> bool:
        """Whether the session is the one that it had before the line broke."""
        return self._ticket == self._had

    def vanish(self) -> None:
        self._line.close()


class Player:
    """Plays in real time, holding this and that, over a line that may break once."""

    stay = (3.0, 20.0)

    def __init__(self, town: Town, now: float):
        self._random, self._tally = town.random, town.tally
        self._stream = _Stream(town.address, town.tally.ages)
        self._stream.start(seed=self._random.randrange(1 << 30))
        self._press_at, self._new_at = now, now
        self._drop_at = now + 5.0 if self._random.random() < 0.2 else float("inf")
        self._dropped = False

    def tick(self, now: float) -> bool:
        """Does what is due; False when it is over before its time."""
        try:
            shown = self._stream.tick()
        except HeliosWorldError as error:
            self._tally.faults[f"player: {error}"] += 1
            return False
        if shown is not None and shown.is_new:
            self._new_at = now
        if now - self._new_at > PATIENCE:
            self._tally.faults[f"player sees nothing new, {self._stream.status}: {self._stream.message}"] += 1
            return False
        if self._dropped and self._stream.status == "playing":
            self._dropped = False
            self._tally.visits["resumed" if self._stream.has_its_world else "resumed too late"] += 1
        if now >= self._drop_at and self._stream.status == "playing":
            self._drop_at, self._dropped = float("inf"), True
            self._stream.drop()
        elif now >= self._press_at and self._stream.card is not None:
            self._press_at = now + self._random.uniform(0.1, 1.0)
            self._stream.hold(self._random.sample(self._stream.card.buttons, self._random.randrange(3)))
        return True

    def leave(self, polite: bool) -> None:
        self._stream.close() if polite else self._stream.vanish()


class Stepper:
    """Goes step by step, in thought between them; may vanish and come back by its ticket, in the midst of a request.

    Every frame is compared with the twin's: a step that were done twice, or in another's world, is seen.
    """

    stay = (3.0, 15.0)

    def __init__(self, town: Town, now: float):
        self._town, self._random, self._tally = town, town.random, town.tally
        self._socket: zmq.Socket | None = None
        self._ticket, self._request, self._asked = "", 0, None
        self._twin, self._action, self._buttons = None, Action(), ()
        self._index, self._again = 0, False
        self._drop_at = now + self._random.uniform(0.5, 6.0) if self._random.random() < 0.4 else float("inf")
        self._back_at = self._think_until = now
        self._connect(now)

    def tick(self, now: float) -> bool:
        """Does what is due; False when it is over before its time."""
        if self._socket is None:
            if now >= self._back_at:
                self._connect(now)
            return True
        for message in _received(self._socket):
            if not self._receive(message, now):
                return False
        if now - self._waits_since > PATIENCE:
            self._tally.faults["a step was not answered"] += 1
            return False
        if now >= self._drop_at and self._request > 1:
            self._socket.close(0)
            self._socket, self._drop_at, self._back_at = None, float("inf"), now + self._random.uniform(0.1, 2.0)
        elif self._welcomed and self._asked is None and now >= self._think_until:
            self._action = Action.of(*self._random.sample(self._buttons, self._random.randrange(3)))
            self._ask(protocol.Step(self._request + 1, self._action.buttons), now)
        return True

    def leave(self, polite: bool) -> None:
        if self._socket is not None:
            close_socket(self._socket) if polite else self._socket.close(0)

    def _connect(self, now: float) -> None:
        self._socket, self._welcomed, self._waits_since = open_socket(self._town.address), False, now
        _send(self._socket, protocol.Hello(protocol.VERSION, "soak", self._ticket))

    def _ask(self, message: protocol.Message, now: float) -> None:
        self._asked, self._request, self._waits_since = message, message.request, now
        _send(self._socket, message)

    def _receive(self, message: protocol.Message, now: float) -> bool:
        if isinstance(message, protocol.Welcome):
            self._welcome(message, now)
        elif isinstance(message, protocol.Frames) and self._asked is not None:
            self._compare(message, now)
        elif isinstance(message, protocol.Error):
            self._tally.faults[f"step: {message.code} {message.message}"] += 1
            return False
        return True

    def _welcome(self, welcome: protocol.Welcome, now: float) -> None:
        self._welcomed = True
        known = welcome.session == self._ticket
        if self._ticket:
            self._tally.visits["resumed" if known else "resumed too late"] += 1
        self._ticket, self._buttons = welcome.session, welcome.card.buttons
        if not known:
            seed = self._random.randrange(1 << 30)
            self._twin, self._index = self._town.twin(seed), 0
            self._ask(protocol.Reset(welcome.answered + 1, None, seed), now)
        elif self._asked is not None:
            self._ask(self._asked, now)
            self._again = True
        else:
            self._waits_since = float("inf")

    def _compare(self, frames: protocol.Frames, now: float) -> None:
        if not self._again:  # else it may have been made while nobody was here
            self._tally.ages.append(time.monotonic() - frames.made_at)
        if frames.index:
            if not self._again:
                self._tally.answers.append(now - self._waits_since)
            if self._twin is not None and self._twin.step(self._action).frames.tobytes() != frames.payload:
                self._tally.faults["frames of another world"] += 1
        if (frames.request, frames.index) != (self._request, self._index):
            self._tally.faults["a step was lost or done twice"] += 1
        self._asked, self._again = None, False
        self._index, self._waits_since = frames.index + 1, float("inf")
        self._think_until = now + self._random.uniform(0.05, 0.5)


class Starver:
    """Asks on and on, in real time or step by step, and reads nothing."""

    stay = (2.0, 6.0)

    def __init__(self, town: Town, now: float):
        self._socket = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.linger, self._socket.rcvhwm, self._socket.rcvbuf = 0, 1, 1 << 16
        self._socket.connect(town.address)
        self._steps, self._count, self._due = town.random.random() < 0.5, 1, now
        _send(self._socket, protocol.Hello(protocol.VERSION, "soak", ""))
        _send(self._socket, protocol.Reset(1, None, 0))

    def tick(self, now: float) -> bool:
        if now >= self._due:
            self._due = now + 0.03
            self._count += 1
            held: frozenset[str] = frozenset()
            message = protocol.Step(self._count, held) if self._steps else protocol.Act(self._count, now, held, 1 << 40)
            _send(self._socket, message)
        return True

    def leave(self, polite: bool) -> None:
        close_socket(self._socket) if polite else self._socket.close(0)


class Stranger:
    """Says hello and nothing more, or what is no message, or what only a session may."""

    stay = (0.2, 2.0)

    def __init__(self, town: Town, now: float):
        self._socket = open_socket(town.address)
        kind = town.random.randrange(3)
        if kind == 0:
            _send(self._socket, protocol.Hello(protocol.VERSION, "soak", ""))
        elif kind == 1:
            self._socket.send_multipart([town.random.randbytes(50), town.random.randbytes(200)])
        else:
            _send(self._socket, protocol.Step(1, frozenset()))

    def tick(self, now: float) -> bool:
        for _ in _received(self._socket):
            pass
        return True

    def leave(self, polite: bool) -> None:
        close_socket(self._socket) if polite else self._socket.close(0)


KINDS = {Player: 50, Stepper: 35, Starver: 5, Stranger: 10}


class Place:
    """One of the clients that are there at the same time: visitor after visitor, with a pause between them."""

    def __init__(self, town: Town, now: float):
        self._town = town
        self._guest: Player | Stepper | Starver | Stranger | None = None
        self._until = 0.0
        self._due = now + town.random.uniform(0.0, 3.0)

    def tick(self, now: float) -> None:
        if self._guest is None:
            if now >= self._due:
                kind = self._town.random.choices(list(KINDS), list(KINDS.values()))[0]
                self._town.tally.visits[kind.__name__.lower()] += 1
                self._guest, self._until = kind(self._town, now), now + self._town.random.uniform(*kind.stay)
        elif not self._guest.tick(now) or now >= self._until:
            self.leave()
            self._due = now + self._town.random.uniform(0.1, 1.0)

    def leave(self) -> None:
        """Whoever is there goes, with a word or without."""
        if self._guest is not None:
            polite = self._town.random.random() < 0.6
            self._town.tally.visits["left with a word" if polite else "vanished"] += 1
            self._guest.leave(polite)
            self._guest = None


def _received(socket: zmq.Socket) -> Iterator[protocol.Message]:
    with contextlib.suppress(zmq.Again):
        while True:
            yield protocol.decode(socket.recv_multipart(zmq.DONTWAIT))


def _send(socket: zmq.Socket, message: protocol.Message) -> None:
    with contextlib.suppress(zmq.Again):  # a line that takes no more: the answer that is missing will tell
        socket.send_multipart(protocol.encode(message), zmq.DONTWAIT)
