"""Target: whatever strangers send to a live port, every answer is a message, and a client beside them is served."""

from __future__ import annotations

import time

import zmq

from helios_world.bridge import protocol
from helios_world.bridge.server import LEASE, WorldServer
from helios_world.engine import WorldEngine
from tests.fuzz.records import Record, split
from tests.fuzz.seeds import ANEW, DEAF, LATER, MORE, OTHER, TICKET, TURN, model

SEATS = 4
SERVED_WITHIN = 2.0  # seconds that a step beside the strangers may take, on a machine that does other things too
_MARK = 1_000_000  # as a version it is always refused by name, which says that all before it was read
_BACKLOG = 64


def one(data: bytes) -> None:
    """A fresh server gets the records of `data`; a new one each time, so that a failing input fails alone."""
    port = Port()
    try:
        port.feed(split(data))
        port.settle()
        port.serve_the_other()
    finally:
        port.close()


class Port:
    """A server, two strangers and one client that behaves, all in this thread; the server's clock is ours."""

    def __init__(self):
        self.now = 1000.0
        self.server = WorldServer(WorldEngine(model()), broadcast=0, max_sessions=SEATS, clock=lambda: self.now)
        self.context = zmq.Context()
        self.strangers = [self._dealer(), self._dealer()]
        self.ticket = TICKET
        self.good, self.request, self.mark = self._dealer(), 0, _MARK
        assert isinstance(self._ask(protocol.Hello(protocol.VERSION, "good", "", ("raw",))), protocol.Welcome)
        assert self._ask(protocol.Reset(self._number(), None, 3)).index == 0

    def feed(self, records: list[Record]) -> None:
        """Sends each record as its flags say."""
        waiting: list[bytes] = []
        for record in records:
            which = bool(record.flags & OTHER)
            if record.flags & ANEW:
                self.strangers[which].close(0)
                self.strangers[which] = self._dealer()
            if record.flags & LATER:
                self.now += LEASE * 0.7
            waiting.append(record.data.replace(TICKET.encode(), self.ticket.encode()))
            if not record.flags & MORE:
                self._send(self.strangers[which], waiting)
                waiting = []
            if record.flags & TURN:
                self._turn()
            if not record.flags & DEAF:
                self._listen()

    def settle(self) -> None:
        """Lets the server work until it has read all that the strangers sent."""
        for stranger in self.strangers:
            self.mark += 1
            again = 0.0
            while not self._listen(self.mark):
                if time.monotonic() > again:
                    self._send(stranger, protocol.encode(protocol.Hello(self.mark, "mark")))
                    again = time.monotonic() + 0.05
                self._turn()

    def serve_the_other(self) -> None:
        """The client that behaves gets its next chunk in time, and nothing piled up."""
        self.now += 1.0
        began = time.monotonic()
        answer = self._ask(protocol.Step(self._number(), frozenset({"forward"})))
        took = time.monotonic() - began
        assert isinstance(answer, protocol.Frames) and answer.index == 1, answer
        assert took < SERVED_WITHIN, f"beside the strangers a step took {took:.2f} s"
        server = self.server
        assert len(server._seats) <= SEATS and len(server._by_peer) <= SEATS + 1, "sessions pile up"
        assert all(len(queue) <= _BACKLOG for queue in server._backlog.values()), "answers pile up"
        assert len(server._backlog) <= len(server._by_peer), "answers wait for strangers"

    def close(self) -> None:
        for socket in (*self.strangers, self.good):
            socket.close(0)
        self.context.term()
        self.server.close()

    def _dealer(self) -> zmq.Socket:
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.connect(self.server.address)
        return socket

    def _number(self) -> int:
        self.request += 1
        return self.request

    def _send(self, socket: zmq.Socket, parts: list[bytes]) -> None:
        for _ in range(1000):
            try:
                return socket.send_multipart(parts, zmq.DONTWAIT)
            except zmq.Again:
                self._turn()
        raise AssertionError("the server takes nothing more from a stranger")

    def _turn(self) -> None:
        self.server.turn(0.001)

    def _listen(self, mark: int = 0) -> bool:
        """Reads what came for the strangers: all of it must be messages. Whether `mark` was refused."""
        found = False
        for stranger in self.strangers:
            while stranger.poll(0):
                message = protocol.decode(stranger.recv_multipart())
                if isinstance(message, protocol.Welcome | protocol.Done) and message.session:
                    self.ticket = message.session
                if isinstance(message, protocol.Error) and message.code == "version":
                    found = found or f" {mark}:" in message.message
        return found

    def _ask(self, message: protocol.Message) -> protocol.Message:
        self.good.send_multipart(protocol.encode(message))
        until = time.monotonic() + 2 * SERVED_WITHIN
        while time.monotonic() < until:
            self._turn()
            while self.good.poll(0):
                answer = protocol.decode(self.good.recv_multipart())
                if answer != protocol.Pong(0.0):
                    return answer
        raise AssertionError(f"{message} of the client that behaves is not answered")
