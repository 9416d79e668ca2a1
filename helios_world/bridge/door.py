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
HIGH_WATER = 16  # messages held for one client by the socket, before frames are dropped and replies wait elsewhere


class Door:
    """A bound ROUTER socket.

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
        self._context = zmq.Context()
        self._guard: ThreadAuthenticator | None = None
        self.socket = _socket(self._context)
        self.socket.ipv6 = address.startswith("tcp://[")
        if lock is not None:
            self._guard = _guard(self._context, lock)
            self.socket.curve_server = 1
            self.socket.curve_secretkey = lock.own.secret.encode()
            self.socket.zap_domain = DOMAIN.encode()
        try:
            self.socket.bind(re.sub(r":0$", ":*", address))
        except zmq.ZMQError as error:
            self.close()
            if error.errno == zmq.EADDRINUSE:
                raise UserError(f"{address} is in use: choose another port, or 0 for any free one") from None
            raise UserError(f"cannot serve on {address!r}: {error}") from None
        self.locked = lock is not None
        self.address: str = self.socket.last_endpoint.decode().rstrip("\0")

    def close(self) -> None:
        """Frees the port."""
        self.socket.close(0)
        if self._guard is not None:
            self._guard.stop()
        self._context.term()


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


def _socket(context: zmq.Context) -> zmq.Socket:
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.router_mandatory = 1
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
