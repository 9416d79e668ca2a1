"""A connection to a server that tells when it breaks. It is not mended: who loses one makes another."""

from __future__ import annotations

import zmq
from zmq.utils.monitor import recv_monitor_message


class Line:
    """Watches `socket`, which is connected already, and owns it until `release` or `close`."""

    def __init__(self, socket: zmq.Socket):
        self.socket = socket
        self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._poller = zmq.Poller()
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def send(self, parts: list[bytes]) -> bool:
        """Never waits. False if the line takes no more, as one that broke meanwhile: the silence that follows tells."""
        try:
            self.socket.send_multipart(parts, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def wait(self, milliseconds: int) -> bool:
        """Sleeps until a message came or the line broke, or for `milliseconds`; whether there is a message."""
        return self.socket in dict(self._poller.poll(milliseconds))

    def broke(self) -> bool:
        """Whether the line has broken; each break is told once."""
        if not self._monitor.poll(0):
            return False
        recv_monitor_message(self._monitor)
        return True

    def release(self) -> zmq.Socket:
        """Stops watching; the socket is the caller's again."""
        self.socket.disable_monitor()
        self._monitor.close(0)
        return self.socket

    def close(self) -> None:
        """Ends the connection at once."""
        self.release().close(0)
