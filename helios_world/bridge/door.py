"""Where a server lets clients in: its socket, the addresses it may have, and the keys that open it.

On loopback anybody on this machine may come in. Anywhere else only clients whose key is allowed, over CURVE (encrypted
both ways, RFC 26); or, where somebody says so in words, everybody.
"""

from __future__ import annotations

import re

import zmq
from zmq.auth.thread import ThreadAuthenticator

from helios_world.bridge import protocol
from helios_world.bridge.keys import Lock
from helios_world.errors import UserError

LOOPBACK = re.compile(r"(tcp://(127\.\d+\.\d+\.\d+|localhost|\[::1\]):(\d+|\*)|ipc://.+|inproc://.+)")
ANYWHERE = re.compile(r"tcp://(\[[0-9a-fA-F:]+\]|[\w.*-]+):(\d+|\*)")
OLDEST_LIBZMQ = (4, 3, 5)  # older ones can be crashed or taken over before a key is asked for
HANDSHAKE_MS = 3000
DOMAIN = "helios-world"  # of the keys, as ZAP (RFC 27) has it
MAX_SUBSCRIPTION = 64  # bytes: all that a spectator may say
SAVING_NEAR, SAVING_FAR = 0.2, 2.0  # seconds between the snapshots that a client keeps
HIGH_WATER = 16  # messages held for one client by the socket, before frames are dropped and replies wait elsewhere


class Door:
    """A bound ROUTER socket, and a port for spectators beside it where asked for.

    Args:
        address: "tcp://HOST:PORT" (port 0 or * picks a free one) or "ipc://PATH".
        lock: who may come in; None for everybody.
        insecure: lets everybody in beyond loopback too.
    Raises:
        UserError: an address that is malformed, in use, or beyond loopback without a lock; a libzmq that is too old.

    Attributes:
        address: with the port that was picked.
    """

    def __init__(self, address: str, *, lock: Lock | None = None, insecure: bool = False):
        check_address(address, lock, insecure)
        self._context, self._lock = zmq.Context(), lock
        self._guard = None if lock is None else _guard(self._context, lock)
        self._sockets: list[zmq.Socket] = []
        self.locked = lock is not None
        self.socket, self.address = self._bind(_router(self._context), address)

    def broadcast(self, port: int) -> tuple[zmq.Socket, int]:
        """An XPUB on `port` (0 picks a free one) of the same host behind the same lock, and the port it has.

        Raises:
            UserError: the door is no tcp address, or the port is in use.
        """
        host = re.fullmatch(r"(tcp://.+):\d+", self.address)
        if host is None:
            raise UserError(f"spectators need a tcp address: {self.address} is none")
        socket, address = self._bind(_publisher(self._context), f"{host[1]}:{port}")
        return socket, int(address.rsplit(":", 1)[1])

    def close(self) -> None:
        """Frees the ports."""
        for socket in self._sockets:
            socket.close(0)
        if self._guard is not None:
            self._guard.stop()
        self._context.term()

    def _bind(self, socket: zmq.Socket, address: str) -> tuple[zmq.Socket, str]:
        """The socket, bound and locked, and its address; if that fails the door is closed."""
        self._sockets.append(socket)
        socket.ipv6 = address.startswith("tcp://[")
        if self._lock is not None:
            socket.curve_server = 1
            socket.curve_secretkey = self._lock.own.secret.encode()
            socket.zap_domain = DOMAIN.encode()
        try:
            socket.bind(re.sub(r":0$", ":*", address))
        except zmq.ZMQError as error:
            self.close()
            if error.errno == zmq.EADDRINUSE:
                raise UserError(f"{address} is in use: choose another port, or 0 for any free one") from None
            raise UserError(f"cannot serve on {address!r}: {error}") from None
        return socket, socket.last_endpoint.decode().rstrip("\0")


def saving_interval(address: str) -> float:
    """Seconds between the snapshots that a client of `address` keeps.

    They follow every chunk where they cost next to nothing, so that a dying server takes only one chunk with it.
    """
    return SAVING_NEAR if LOOPBACK.fullmatch(address) else SAVING_FAR


def check_address(address: str, lock: Lock | None, insecure: bool) -> None:
    """UserError unless a server may listen at `address`, as `Door` has it. Opens nothing."""
    if not LOOPBACK.fullmatch(address) and not ANYWHERE.fullmatch(address):
        raise UserError(f"cannot serve on {address!r}: must be like tcp://127.0.0.1:5557 or ipc://PATH")
    if LOOPBACK.fullmatch(address) and lock is None:
        return
    if lock is None and not insecure:
        advice = "give --key and --allow (see helios-world keygen), or --insecure to let everybody in"
        raise UserError(f"cannot serve on {address!r}, which is beyond this machine, without keys: {advice}")
    if lock is not None and not zmq.has("curve"):
        raise UserError("cannot use keys: this libzmq was built without encryption")
    if zmq.zmq_version_info() < OLDEST_LIBZMQ:
        wanted = ".".join(map(str, OLDEST_LIBZMQ))
        raise UserError(f"cannot serve beyond this machine: libzmq is {zmq.zmq_version()}, {wanted} or newer is needed")


def _router(context: zmq.Context) -> zmq.Socket:
    socket = _prepared(context.socket(zmq.ROUTER))
    socket.router_mandatory = 1
    return socket


def _publisher(context: zmq.Context) -> zmq.Socket:
    """Frames of a spectator who is too slow are dropped; every newcomer is told of."""
    socket = _prepared(context.socket(zmq.XPUB))
    socket.xpub_verbose = 1
    socket.maxmsgsize = MAX_SUBSCRIPTION
    return socket


def _prepared(socket: zmq.Socket) -> zmq.Socket:
    socket.linger = 0
    socket.sndhwm = HIGH_WATER
    socket.maxmsgsize = protocol.MAX_MESSAGE
    socket.sndbuf = socket.rcvbuf = protocol.SOCKET_BUFFER
    socket.heartbeat_ivl, socket.heartbeat_timeout = 500, 1500
    socket.handshake_ivl = HANDSHAKE_MS
    return socket


class _Allowed:
    """What zmq asks whether a key may come in."""

    def __init__(self, keys: frozenset[str]):
        self._keys = keys

    def callback(self, domain: str, key: bytes) -> bool:
        return key.decode() in self._keys


def _guard(context: zmq.Context, lock: Lock) -> ThreadAuthenticator:
    guard = ThreadAuthenticator(context)
    guard.start()
    guard.configure_curve_callback(domain=DOMAIN, credentials_provider=_Allowed(lock.allowed))
    return guard
