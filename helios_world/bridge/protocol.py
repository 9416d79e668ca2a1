"""The messages between a generator process and its clients, as bytes and back. No socket, no clock.

A message is two parts: a msgpack map with str keys (`t` names the message) and a raw payload, which may be empty.
Keys that this version does not know are ignored, so that a later one may add some.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import msgpack
import numpy as np

from helios_world.bridge import fields as check
from helios_world.bridge.card_fields import NAME, read_card
from helios_world.bridge.outcome_fields import read_outcome
from helios_world.card import WorldCard
from helios_world.errors import ProtocolError, UserError
from helios_world.mouse import STILL, Movement
from helios_world.world import Outcome, Start

VERSION = 1
CODECS = ("raw", "jpeg", "h264")
CODES = (
    "bad_message",
    "bad_request",
    "busy",
    "codec",
    "engine",
    "handed_over",
    "no_world",
    "rate",
    "unknown_session",
    "version",
)
PROMPT_VERBS = ("change", "queue", "cancel")
INVITE_VERBS = ("watch", "play", "nobody")
NAME_LENGTH = 32  # characters of the name that a session is watched by
MAX_HEADER = 1 << 16  # bytes
MAX_PAYLOAD = 64 << 20  # bytes: 1000 frames of 160x128, or a snapshot of a large world
MAX_MESSAGE = MAX_PAYLOAD  # what sockets accept in one part
MAX_LIST, MAX_MAP = 1024, 256  # entries of one list or map in a header
MAX_PROMPT = 4096  # characters, several times what a text encoder reads
SOCKET_BUFFER = 1 << 20  # bytes in the kernel: with its own choice a chunk sometimes waits 8 or 24 ms on loopback
_LENGTH = struct.Struct(">I")
_START_DTYPES = {"image": "uint8", "video": "uint8", "actions": "float32"}
_START_RANKS = {"image": 3, "video": 4, "actions": 2}


# Client to server. `request` rises by one per request of a session; a repeated one is answered again, not done again.


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of a connection.

    `session`: ticket of a session to take up again, or "" for a new one. `codecs`: what the client can read; the server
    takes its own if it is among them, else the first that it knows.
    """

    version: int
    client: str
    session: str = ""
    codecs: tuple[str, ...] = ("raw", "jpeg")


@dataclass(frozen=True, slots=True)
class Reset:
    """Start a new world; answered by Frames with index 0. `prompt`, `arrays` and `payload` come from `pack_start`."""

    request: int
    scene: str | None
    seed: int
    prompt: str | None = None
    arrays: tuple[tuple[str, tuple[int, ...]], ...] = ()
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Step:
    """Lock-step: one chunk under these buttons and this movement of the mouse; answered by Frames."""

    request: int
    buttons: frozenset[str]
    mouse: Movement = STILL


@dataclass(frozen=True, slots=True)
class Act:
    """Real time: what is held from now on. `wanted`: index of the chunk to make now, 0 for none.

    `seq` rises with every Act; `sent_at` is the client's clock in seconds and comes back as it was. `mouse`: where it
    is on an endless table, so that an Act that is lost or repeated changes nothing; the first one of a connection says
    where it begins.
    """

    seq: int
    sent_at: float
    buttons: frozenset[str]
    wanted: int = 0
    mouse: Movement = STILL


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the world is to be told; answered by Done. `verb` is one of PROMPT_VERBS, those of `prompts.PromptTrack`.

    `over`: chunks that the change takes. `after`: "queue" alone, see there.
    """

    request: int
    verb: str
    text: str = ""
    over: int = 1
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Answered by Done with the world as opaque bytes."""

    request: int


@dataclass(frozen=True, slots=True)
class Restore:
    """Go over to the world in `payload`; answered by Done."""

    request: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Fork:
    """A twin of the world; answered by Done with the ticket that a Hello of another connection takes it up with."""

    request: int


@dataclass(frozen=True, slots=True)
class Invite:
    """Others may join this session; answered by Done, whose `session` is what to give them.

    `verb`: "watch" shows its frames on the server's broadcast port, under a name; "play" makes a ticket with which
    one other client, of any key, takes the session over; "nobody" takes both back.
    """

    request: int
    verb: str


@dataclass(frozen=True, slots=True)
class Ping:
    sent_at: float


@dataclass(frozen=True, slots=True)
class Close:
    """The session is over; not answered."""


# Server to client.


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answers Hello.

    `chunk`: index of the next chunk, 0 for a session that has no world yet. `answered`: highest request done; who takes
    the session up goes on from there. `broadcast`: port of this host where spectators connect, 0 for none.
    """

    version: int
    card: WorldCard
    session: str
    codec: str
    chunk: int
    answered: int = 0
    broadcast: int = 0


@dataclass(frozen=True, slots=True)
class Frames:
    """One chunk. Real-time chunks have request 0 and may be dropped; replies never are.

    Attributes:
        seq, sent_at: of the newest Act that this chunk includes.
        shape: (frames, height, width, 3).
        lengths: bytes of each frame in the payload; empty for codec "raw".
        seconds: wall time that making the chunk took.
        made_at: the server's monotonic clock when it was made, in seconds.
        outcome: what it came to; None in a world whose card does not say `outcomes`.
    """

    request: int
    index: int
    seq: int
    sent_at: float
    shape: tuple[int, ...]
    codec: str
    lengths: tuple[int, ...]
    seconds: float
    made_at: float
    outcome: Outcome | None = field(default=None, kw_only=True)
    payload: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """Answers Snapshot (payload), Restore, Prompt, Fork and Invite (session). `chunk`: index of the next chunk.

    `checksum`: CRC-32 of the payload, so that a world that a line spoilt is not kept; 0 for none.
    """

    request: int
    chunk: int
    session: str = ""
    checksum: int = field(default=0, kw_only=True)
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Error:
    """`code`: one of CODES. Request 0: not a reply."""

    request: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers Ping; sent unasked (`sent_at` 0) to find out whether a silent client is still connected."""

    sent_at: float


Request = Reset | Step | Prompt | Snapshot | Restore | Fork | Invite
Message = Hello | Request | Act | Ping | Close | Welcome | Frames | Done | Error | Pong


def encode(message: Message) -> list[bytes]:
    """`message` as two parts: header and payload."""
    header: dict[str, Any] = {"t": _NAMES[type(message)]}
    payload = b""
    for f in fields(message):
        value = getattr(message, f.name)
        if f.name == "payload":
            payload = value
        elif f.name not in OPTIONAL or value != f.default:
            header[f.name] = _plain(value)
    return [msgpack.packb(header, use_bin_type=True), payload]


def decode(parts: Sequence[bytes]) -> Message:
    """The message in `parts`. ProtocolError for anything that `encode` could not have made."""
    if len(parts) != 2:
        raise ProtocolError(f"message has {len(parts)} parts: must have 2")
    if len(parts[0]) > MAX_HEADER or len(parts[1]) > MAX_PAYLOAD:
        raise ProtocolError(f"message of {len(parts[0])} + {len(parts[1])} bytes: at most {MAX_HEADER} + {MAX_PAYLOAD}")
    header = _unpack(bytes(parts[0]))
    if not isinstance(header, dict):
        raise ProtocolError("header is not a map")
    kind = header.get("t")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ProtocolError("unknown message type")
    cls, checks = _KINDS[kind]
    values: dict[str, Any] = {}
    for name, fits in checks.items():
        if name not in header:
            if name in OPTIONAL:
                continue
            raise ProtocolError(f"{kind} lacks {name}")
        values[name] = fits(f"{kind}.{name}", header[name])
    if "payload" in cls.__dataclass_fields__:
        values["payload"] = bytes(parts[1])
    elif len(parts[1]):
        raise ProtocolError(f"{kind} carries no payload, got {len(parts[1])} bytes")
    message = cls(**values)
    if isinstance(message, Frames):
        _check_frames(message)
    elif isinstance(message, Reset):
        _check_start(message)
    elif isinstance(message, Done) and message.checksum not in (0, zlib.crc32(message.payload)):
        raise ProtocolError(f"a payload of {len(message.payload)} bytes was changed on its way")
    return message


def encode_single(name: str, message: Message) -> bytes:
    """`message` as one part, as spectators get it: the session's name, 4 bytes of header length, header, payload."""
    header, payload = encode(message)
    return b"".join((name.encode(), _LENGTH.pack(len(header)), header, payload))


def decode_single(data: bytes) -> Message:
    """The message in one part. ProtocolError for anything that `encode_single` could not have made."""
    begin = NAME_LENGTH + _LENGTH.size
    if len(data) < begin:
        raise ProtocolError(f"a part of {len(data)} bytes: must have at least {begin}")
    end = begin + _LENGTH.unpack_from(data, NAME_LENGTH)[0]
    if len(data) < end:
        raise ProtocolError(f"a part of {len(data)} bytes says that its header ends at {end}")
    return decode([data[begin:end], data[end:]])


def pack_start(start: Start) -> tuple[str | None, tuple[tuple[str, tuple[int, ...]], ...], bytes]:
    """`Reset.prompt`, `.arrays` and `.payload` for what is in `start`, already checked against the card.

    Raises:
        UserError: more material, or a longer prompt, than one message may hold.
    """
    if start.prompt is not None:
        check_prompt(start.prompt)
    arrays, blobs = [], []
    for name, dtype in _START_DTYPES.items():
        value = getattr(start, name)
        if value is not None:
            array = np.ascontiguousarray(value, dtype)
            arrays.append((name, array.shape))
            blobs.append(array.tobytes())
    payload = b"".join(blobs)
    if len(payload) > MAX_PAYLOAD:
        raise UserError(f"the material to start from has {len(payload)} bytes: at most {MAX_PAYLOAD}")
    return start.prompt, tuple(arrays), payload


def unpack_start(message: Reset) -> Start:
    """What a decoded `message` starts from."""
    found, offset = {"prompt": message.prompt}, 0
    for name, shape in message.arrays:
        dtype = np.dtype(_START_DTYPES[name])
        array = np.frombuffer(message.payload, dtype, math.prod(shape), offset).reshape(shape)
        offset += array.nbytes
        found[name] = array
    return Start(**found)


def check_prompt(text: str) -> str:
    """`text`, or UserError if it is longer than one message may hold."""
    if len(text) > MAX_PROMPT:
        raise UserError(f"the prompt has {len(text)} characters: at most {MAX_PROMPT}")
    return text


def _unpack(data: bytes) -> Any:
    limits = {
        "max_str_len": 4 * MAX_PROMPT,
        "max_bin_len": 0,
        "max_array_len": MAX_LIST,
        "max_map_len": MAX_MAP,
        "max_ext_len": 0,
    }
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, use_list=True, ext_hook=_refuse_ext, **limits)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise ProtocolError(f"header is not msgpack within limits ({type(error).__name__})") from None


def _refuse_ext(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def _plain(value: Any) -> Any:
    """`value` as msgpack carries it; sets in sorted order, so that equal messages are equal bytes."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Outcome):
        return asdict(value)
    return value.to_dict() if isinstance(value, WorldCard) else value


def _arrays(name: str, value: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
    def array(name: str, item: Any) -> tuple[str, tuple[int, ...]]:
        if type(item) is not list or len(item) != 2 or item[0] not in tuple(_START_DTYPES):
            raise ProtocolError(f"{name} must hold pairs of {', '.join(_START_DTYPES)} and a shape")
        return item[0], check.sizes(name, item[1])

    return check.list_of(array, len(_START_DTYPES))(name, value)


def _check_frames(message: Frames) -> None:
    if len(message.shape) != 4:  # the text goes to the sender: it must not be longer than a message may be
        raise ProtocolError(f"frames have {len(message.shape)} axes: must have 4")
    if message.shape[3] != 3 or 0 in message.shape:
        raise ProtocolError(f"frames have shape {message.shape}: must be (frames, height, width, 3)")
    if math.prod(message.shape) > MAX_PAYLOAD:
        raise ProtocolError(f"frames of shape {message.shape} take more than {MAX_PAYLOAD} bytes")
    size, lengths = len(message.payload), message.lengths
    if message.codec == "raw" and (lengths or size != math.prod(message.shape)):
        raise ProtocolError(f"raw frames of shape {message.shape} came in {size} bytes")
    if message.codec != "raw" and (len(lengths) != message.shape[0] or sum(lengths) != size):
        raise ProtocolError("the lengths of the frames do not make up the payload")


def _check_start(message: Reset) -> None:
    names = [name for name, _ in message.arrays]
    if names != [name for name in _START_DTYPES if name in names]:
        raise ProtocolError(f"start arrays {names}: each at most once, in the order {', '.join(_START_DTYPES)}")
    size = 0
    for name, shape in message.arrays:
        if len(shape) != _START_RANKS[name]:
            raise ProtocolError(f"start {name} has {len(shape)} axes: must have {_START_RANKS[name]}")
        size += math.prod(shape) * np.dtype(_START_DTYPES[name]).itemsize
    if size != len(message.payload):
        raise ProtocolError(f"start arrays take {size} bytes, payload has {len(message.payload)}")


_REQUEST: dict[str, check.Check] = {"request": check.count}
OPTIONAL = ("checksum", "mouse", "outcome")  # keys that a message may lack
_KINDS: dict[str, tuple[type, dict[str, check.Check]]] = {
    "hello": (
        Hello,
        {
            "version": check.count,
            "client": NAME,
            "session": check.text(64),
            "codecs": check.list_of(check.text(16), 16),
        },
    ),
    "reset": (
        Reset,
        {
            **_REQUEST,
            "scene": check.or_none(NAME),
            "seed": check.count,
            "prompt": check.or_none(check.text(MAX_PROMPT)),
            "arrays": _arrays,
        },
    ),
    "step": (Step, {**_REQUEST, "buttons": check.buttons, "mouse": check.pair}),
    "act": (
        Act,
        {
            "seq": check.count,
            "sent_at": check.number,
            "buttons": check.buttons,
            "wanted": check.count,
            "mouse": check.pair,
        },
    ),
    "prompt": (
        Prompt,
        {
            **_REQUEST,
            "verb": check.one_of(PROMPT_VERBS),
            "text": check.text(MAX_PROMPT),
            "over": check.count,
            "after": check.or_none(check.count),
        },
    ),
    "snapshot": (Snapshot, _REQUEST),
    "restore": (Restore, _REQUEST),
    "fork": (Fork, _REQUEST),
    "invite": (Invite, {**_REQUEST, "verb": check.one_of(INVITE_VERBS)}),
    "ping": (Ping, {"sent_at": check.number}),
    "close": (Close, {}),
    "welcome": (
        Welcome,
        {
            "version": check.count,
            "card": read_card,
            "session": check.text(64),
            "codec": check.one_of(CODECS),
            "chunk": check.count,
            "answered": check.count,
            "broadcast": check.count,
        },
    ),
    "frames": (
        Frames,
        {
            **_REQUEST,
            "index": check.count,
            "seq": check.count,
            "sent_at": check.number,
            "shape": check.sizes,
            "codec": check.one_of(CODECS),
            "lengths": check.sizes,
            "seconds": check.seconds,
            "made_at": check.number,
            "outcome": read_outcome,
        },
    ),
    "done": (Done, {**_REQUEST, "chunk": check.count, "session": check.text(64), "checksum": check.count}),
    "error": (Error, {**_REQUEST, "code": check.text(64), "message": check.text(2048)}),
    "pong": (Pong, {"sent_at": check.number}),
}
_NAMES = {cls: name for name, (cls, _) in _KINDS.items()}
