"""What fuzzing starts from: every vector of the protocol, and short games that get to where the worlds are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from helios_world.bridge import codecs, protocol
from helios_world.engine import WorldEngine
from helios_world.gateway import wire
from helios_world.testing import FAKE_CARD, FakeWorldModel
from tests.fuzz.records import Record, join
from tests.vectors import MESSAGES, pairs_accepted, pairs_refused

MORE, OTHER, ANEW, TURN, LATER, DEAF = (1 << bit for bit in range(6))  # flags of the router's records
BINARY, TEXT, SERVER, WAIT = range(4)  # lowest two bits of the gateway's
TOKEN = "secret"
TICKET = "f" * 32  # stands for the newest one that the server gave
CARD = replace(FAKE_CARD, height=16, width=24, frames_per_chunk=2, takes_prompt=True)


def model() -> FakeWorldModel:
    """The world behind a fuzzed server: small, and it takes prompts."""
    return FakeWorldModel(CARD)


def decoder() -> Iterator[bytes]:
    """Each vector, a snapshot, and a chunk in each codec: two records are two parts."""
    for parts in _vectors():
        yield join(_parts(parts, 0))
    yield join(_parts(protocol.encode(protocol.Restore(1, snapshot())), 0))
    for codec in codecs.available():
        yield join(_parts(protocol.encode(_chunk(codec)), 0))
    for message in (MESSAGES["welcome"], MESSAGES["frames, raw"]):
        yield join([Record(0, protocol.encode_single(TICKET, message))])


def router() -> Iterator[bytes]:
    """Each vector of a client after a hello, and games."""
    for message in MESSAGES.values():
        if len(b"".join(parts := protocol.encode(message))) < 4096:
            yield join([*_parts(protocol.encode(HELLO), 0), *_parts(parts, TURN)])
    for game in GAMES:
        yield join([record for message in game for record in _parts(protocol.encode(message), TURN)])
    burst = [record for message in GAMES[1] for record in _parts(protocol.encode(message), 0)]
    yield join(burst)
    again = [*_parts(protocol.encode(HELLO), TURN), *_parts(protocol.encode(AGAIN), ANEW | OTHER | LATER)]
    yield join([*again, *_parts(protocol.encode(protocol.Step(2, frozenset())), DEAF | OTHER)])


def gateway() -> Iterator[bytes]:
    """Each vector as the first message after the token, the same from a server, and games."""
    token = Record(BINARY, wire.pack_token(TOKEN))
    hello = Record(BINARY, wire.pack(HELLO))
    for message in MESSAGES.values():
        packed = wire.pack(message)
        if len(packed) < 4096:
            yield join([token, hello, Record(BINARY, packed)])
            yield join([token, hello, Record(SERVER, packed)])
    for game in GAMES:
        yield join([token, *(Record(BINARY, wire.pack(message)) for message in game)])
    for first in (b"", b"\0\0\0\1{", wire.pack_token("ä\ud800"), wire.pack(HELLO)):
        yield join([Record(BINARY, first), Record(TEXT, b"{}"), Record(WAIT, b"")])
    welcome = Record(SERVER, wire.pack(MESSAGES["welcome"]))
    lost = Record(SERVER, wire.pack(protocol.Error(0, "unknown_session", "")))
    yield join([token, hello, welcome, Record(BINARY, wire.pack(START)), Record(WAIT, b"\xff"), lost, welcome])


def snapshot() -> bytes:
    """Of a world of the fuzzed server, with a prompt that waits."""
    session, _ = WorldEngine(model()).open("maze", seed=1)
    session.queue_prompt("rain", after=3, over=2)
    session.step()
    return session.snapshot()


def _chunk(codec: str) -> protocol.Frames:
    frames = model().reset("maze", seed=1)[1]
    lengths, payload = codecs.pack_frames(frames, codec)
    return protocol.Frames(1, 1, 0, 0.0, frames.shape, codec, lengths, 0.01, 1.0, payload)


def _vectors() -> Iterator[Sequence[bytes]]:
    yield from (protocol.encode(message) for message in MESSAGES.values())
    for _, header, _message in pairs_accepted():
        yield [header if isinstance(header, bytes) else protocol.msgpack.packb(header), b""]
    for _, header, payload in pairs_refused():
        yield [header, payload]


def _parts(parts: Sequence[bytes], flags: int) -> list[Record]:
    return [Record(MORE, parts[0]), Record(flags & ~MORE, parts[1])]


HELLO = protocol.Hello(protocol.VERSION, "fuzz", "", ("jpeg", "raw"))
AGAIN = protocol.Hello(protocol.VERSION, "fuzz", TICKET)
START = protocol.Reset(1, "maze", 7)
_HELD = frozenset({"forward", "attack"})
_TELL = protocol.Prompt(2, "queue", "rain", 2, 3)
GAMES = (
    (HELLO, START, protocol.Step(2, _HELD), protocol.Step(3, frozenset()), protocol.Close()),
    (HELLO, START, *(protocol.Act(n, n / 10, _HELD, n) for n in range(1, 5)), protocol.Act(9, 1.0, frozenset(), 2)),
    (HELLO, START, _TELL, protocol.Prompt(3, "change", "sun"), protocol.Step(4, _HELD), protocol.Prompt(5, "cancel")),
    (HELLO, START, protocol.Fork(2), AGAIN, protocol.Snapshot(2), protocol.Step(3, _HELD), protocol.Step(3, _HELD)),
    (HELLO, protocol.Restore(1, snapshot()), protocol.Step(2, _HELD), AGAIN, protocol.Snapshot(3), protocol.Ping(1.0)),
)
