"""Target: arbitrary parts are a message or a ProtocolError, and what they carry is usable or refused in words."""

from __future__ import annotations

from collections.abc import Sequence

from helios_world.bridge import codecs, protocol
from helios_world.errors import ProtocolError, UserError
from helios_world.snapshot import dump_snapshot, load_snapshot
from tests.fuzz.records import split
from tests.fuzz.seeds import CARD, TICKET, model

MODEL = model()


def one(data: bytes) -> None:
    """Each record of `data` is one part of a message; a record alone is what spectators get."""
    parts = [record.data for record in split(data)]
    try:
        message = protocol.decode_single(parts[0]) if len(parts) == 1 else protocol.decode(parts)
    except ProtocolError as error:
        assert_sendable(protocol.Error(0, "bad_message", str(error)[:2000]))
        return
    assert_sendable(message)
    match message:
        case protocol.Frames():
            _unpack_frames(message)
        case protocol.Reset():
            _unpack_start(message)
        case protocol.Restore():
            _restore(message.payload)


def assert_sendable(message: protocol.Message) -> None:
    """What goes out as `message` comes in as the same."""
    again = protocol.decode(protocol.encode(message))
    assert again == message, f"{message} came back as {again}"
    assert protocol.decode_single(protocol.encode_single(TICKET, message)) == message


def _unpack_frames(message: protocol.Frames) -> None:
    try:
        frames = codecs.unpack_frames(message)
    except ProtocolError:
        return
    assert frames.shape == message.shape and frames.dtype == "uint8"


def _unpack_start(message: protocol.Reset) -> None:
    try:
        start = protocol.unpack_start(message).check(CARD)
    except UserError:
        return
    assert _same_start(protocol.pack_start(start), message)


def _same_start(packed: Sequence[object], message: protocol.Reset) -> bool:
    return packed == (message.prompt, message.arrays, message.payload)


def _restore(snapshot: bytes) -> None:
    try:
        state = load_snapshot(MODEL, snapshot)
    except UserError:
        return
    assert_sendable(protocol.Done(1, state.chunk))
    dump_snapshot(MODEL, state)
