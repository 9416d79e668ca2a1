"""A bad network between a client and a server on this machine: a TCP relay that does what a test says meanwhile."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Weather:
    """What the relay does to all that passes, either way.

    Attributes:
        latency, jitter: seconds each piece waits, and up to so many more.
        bandwidth: bytes a second; None for no limit.
        slice: largest piece passed on at once.
        stalled: nothing passes, and nothing breaks.
        corrupt: share of pieces with one byte changed.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: float | None = None
    slice: int = 65536
    stalled: bool = False
    corrupt: float = 0.0


class ChaosProxy:
    """Relays connections on a port of its own to `target` on this machine.

    Attributes:
        seen: all bytes that came, either way.
    """

    def __init__(self, target: int, seed: int = 0):
        self.seen = bytearray()
        self.weather = Weather()
        self._target, self._random = target, random.Random(seed)
        self._ends: list[socket.socket] = []
        self._deaf: list[socket.socket] = []  # half open: left to the client
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, **changes) -> None:
        """Changes the weather from the next piece on."""
        self.weather = replace(self.weather, **changes)

    def reset_all(self) -> None:
        """Breaks every connection with RST, as when a cable is pulled and put back."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            end.close()

    def half_open(self) -> None:
        """The server's ends vanish without a word; the client's stay, and nobody answers there."""
        ends, self._ends = self._ends, []
        self._deaf += ends[::2]
        for end in ends[1::2]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone would leave a thread in `accept` for ever
        self._listener.close()
        self.reset_all()
        for end in self._deaf:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=ends, daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                for piece in _slices(data, self.weather.slice):
                    self._wait(len(piece))
                    sink.sendall(self._spoilt(piece))
        for end in (source, sink):
            if end not in self._deaf:
                end.close()

    def _wait(self, size: int) -> None:
        weather = self.weather
        pause = weather.latency + weather.jitter * self._random.random()
        if weather.bandwidth is not None:
            pause += size / weather.bandwidth
        if pause:
            time.sleep(pause)
        while self.weather.stalled:
            time.sleep(0.01)

    def _spoilt(self, piece: bytes) -> bytes:
        if self._random.random() >= self.weather.corrupt:
            return piece
        place = self._random.randrange(len(piece))
        return piece[:place] + bytes([piece[place] ^ 0x55]) + piece[place + 1 :]


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    for low in range(0, len(data), size):
        yield data[low : low + size]
