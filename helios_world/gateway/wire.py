"""Messages as WebSocket carries them: u32 big-endian length of a JSON header, the header, the payload. No socket.

Headers have the fields of `bridge.protocol`, and every value goes through its checks. Two messages are of the gateway
alone: `token`, the first one of a browser, and `lost`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import msgpack

from helios_world.bridge import protocol
from helios_world.errors import ProtocolError

MAX_INBOUND = 1 << 16  # bytes of one message from a browser
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Lost:
    """The server went away, and with it whatever it had not answered. A `welcome` says that it is back."""


LOST = Lost()


def pack(message: protocol.Message | Lost) -> bytes:
    """`message` as one binary WebSocket message."""
    if isinstance(message, Lost):
        return _join({"t": "lost"}, b"")
    header, payload = protocol.encode(message)
    return _join(msgpack.unpackb(header, raw=False), payload)


def unpack(data: bytes) -> protocol.Message:
    """The message in `data`. ProtocolError for anything that the protocol does not know."""
    header, payload = _split(data)
    try:
        packed = msgpack.packb(header, use_bin_type=True)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise ProtocolError("header holds a value that no message has") from None
    return protocol.decode([packed, payload])


def pack_token(token: str) -> bytes:
    """The first message of a browser."""
    return _join({"t": "token", "token": token}, b"")


def unpack_token(data: bytes) -> str:
    """The token in the first message of a browser. ProtocolError if it is another message."""
    header, payload = _split(data)
    token = header.get("token")
    if header.get("t") != "token" or type(token) is not str or payload:
        raise ProtocolError("the first message must be a token")
    return token


def _join(header: dict[str, Any], payload: bytes) -> bytes:
    words = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((_LENGTH.pack(len(words)), words, payload))


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    if len(data) < _LENGTH.size:
        raise ProtocolError(f"message of {len(data)} bytes: at least {_LENGTH.size}")
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    if end > len(data):
        raise ProtocolError("the header is longer than the message")
    try:
        header = json.loads(data[_LENGTH.size : end].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"header is not JSON ({type(error).__name__})") from None
    if type(header) is not dict:
        raise ProtocolError("header is not a map")
    return header, data[end:]
