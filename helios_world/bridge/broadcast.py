"""What spectators see: the chunks of every session that is shown, on a port of their own. They cannot say anything.

One part a message, so that a subscriber may keep the newest alone (ZMQ_CONFLATE) and none gets half a chunk. Who is
slow loses frames; nobody waits for a spectator.
"""

from __future__ import annotations

import zmq

from helios_world.bridge import protocol

_DRAIN = 1000  # subscriptions looked at before the next batch


class Broadcast:
    """The publishing side. The thread that owns the server's socket owns this one.

    Args:
        socket: a bound XPUB that is told of every subscription.
        port: of it, for people.
    """

    def __init__(self, socket: zmq.Socket, port: int):
        self._socket, self.port = socket, port
        self._newest: dict[str, list[bytes]] = {}  # by name of the session: its welcome, its last frames

    def open(self, name: str, welcome: protocol.Welcome) -> None:
        """From now on the session called `name` can be watched."""
        self._newest.setdefault(name, [protocol.encode_single(name, welcome)])

    def show(self, name: str, frames: protocol.Frames) -> None:
        """A chunk of an open session to whoever watches it."""
        single = protocol.encode_single(name, frames)
        self._newest[name][1:] = [single]
        self._send(single)

    def greet(self) -> None:
        """Sends those who came since the last call the card and the newest chunk of what they watch."""
        asked = set()
        for _ in range(_DRAIN):
            try:
                words = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            if words[:1] == b"\x01":
                asked.add(words[1:])
        for name in [name for name in self._newest if name.encode() in asked]:
            for single in self._newest[name]:
                self._send(single)

    def forget(self, name: str) -> None:
        """The session is not shown any more."""
        self._newest.pop(name, None)

    def _send(self, single: bytes) -> None:
        self._socket.send(single, zmq.DONTWAIT)  # a PUB never blocks
