"""`python -m tests.vectors` writes docs/protocol/vectors.json and schema.json: the protocol as bytes and as a table.

Clients in other languages read them in their tests. In JSON, binary is hex, and an integer that a double cannot hold is
its decimal text.
"""

import dataclasses
import json
from pathlib import Path

import msgpack

from helios_world import mouse
from helios_world.bridge import card_fields, fields, outcome_fields, protocol
from helios_world.card import WorldCard
from helios_world.testing import FAKE_CARD
from helios_world.world import Outcome

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "protocol"
FROM_SERVER = (protocol.Welcome, protocol.Frames, protocol.Done, protocol.Error, protocol.Pong)
MOST = fields.MAX_COUNT
EXACT = (1 << 53) - 1  # the largest integer that every JSON reader keeps
WORDS = "Grüße, 世界 🌍"

FULLEST_CARD = WorldCard(
    name="é" * 256,
    height=MOST,
    width=1,
    fps=1e15,
    frames_per_chunk=1,
    buttons=tuple(f"button {n}" for n in range(64)),
    scenes=(WORDS, ""),
    bindings={"ä": "button 0", "": "button 1"},
    takes_prompt=True,
)
PLAIN_CARD = dataclasses.replace(FAKE_CARD, mouse=None)  # a reader may do without the mouse
PLAIN_FRAMES = protocol.Frames(
    *(0, 7, 42, 12.25, (1, 2, 2, 3), "raw", (), 0.0452, 1e15), payload=bytes(range(244, 256))
)
JPEG_FRAMES = protocol.Frames(3, 1, 0, 0.0, (2, 8, 8, 3), "jpeg", (3, 2), 0.0, -0.5, bytes.fromhex("ffd8ff00ff"))
GAME_FRAMES = dataclasses.replace(PLAIN_FRAMES, index=8, outcome=Outcome(-1.5, True, 0.25, 0.75))
MANY_FRAMES = protocol.Frames(MOST, MOST, MOST, -1e15, (1024, 1, 1, 3), "jpeg", (0,) * 1024, 1e15, 0.0, b"")
PICTURE = (("image", (1, 2, 3)),)
CLIP = (("video", (2, 1, 1, 3)), ("actions", (2, 1)))

MESSAGES = {
    "hello": protocol.Hello(1, "helios-world-javascript"),
    "hello again, all that fits": protocol.Hello(MOST, WORDS, "f" * 64, ("h264 " + "x" * 11,) * 16),
    "hello that reads nothing": protocol.Hello(0, "", "", ()),
    "reset": protocol.Reset(1, "maze", 7),
    "reset to the default scene": protocol.Reset(127, None, 0),
    "reset, largest numbers": protocol.Reset(MOST, "", MOST, "🌍" * protocol.MAX_PROMPT),
    "reset from an image": protocol.Reset(128, None, 255, "", PICTURE, bytes(range(6))),
    "reset from a video": protocol.Reset(256, "hall", 65535, None, CLIP, bytes(6) + bytes.fromhex("0000803f00000000")),
    "step": protocol.Step(65536, frozenset({"turn_left", "forward"})),
    "step without buttons": protocol.Step(2, frozenset()),
    "step with 64 buttons": protocol.Step(1 << 32, frozenset(f"{n:064}" for n in range(64))),
    "act": protocol.Act(1, 0.125, frozenset({"attack"}), 3),
    "act that asks for nothing": protocol.Act((1 << 32) - 1, 1.0, frozenset()),
    "act, largest numbers": protocol.Act(MOST, 1e15, frozenset({WORDS, "é", "z"}), MOST),
    "step with a mouse": protocol.Step(3, frozenset({"forward"}), (-70.0, 0.5)),
    "act with a mouse": protocol.Act(2, 0.25, frozenset(), 4, (1234.0, -1e15)),
    "prompt": protocol.Prompt(4, "change", WORDS, 3),
    "prompt for later": protocol.Prompt(5, "queue", "x" * protocol.MAX_PROMPT, MOST, 12),
    "prompt withdrawn": protocol.Prompt(6, "cancel"),
    "snapshot": protocol.Snapshot(0),
    "snapshot, largest number": protocol.Snapshot(MOST),
    "restore": protocol.Restore(9, bytes(range(256))),
    "restore of nothing": protocol.Restore(EXACT, b""),
    "fork": protocol.Fork(31),
    "fork, first number that a double cannot hold": protocol.Fork(EXACT + 2),
    "invite to watch": protocol.Invite(32, "watch"),
    "invite to play": protocol.Invite(MOST, "play"),
    "invite nobody": protocol.Invite(33, "nobody"),
    "ping": protocol.Ping(1234.5678),
    "ping, negative zero": protocol.Ping(-0.0),
    "close": protocol.Close(),
    "welcome": protocol.Welcome(1, PLAIN_CARD, "0123456789abcdef" * 2, "raw", 0),
    "welcome, all that fits": protocol.Welcome(MOST, FULLEST_CARD, "f" * 64, "jpeg", MOST, MOST, MOST),
    "frames, raw": PLAIN_FRAMES,
    "frames, jpeg": JPEG_FRAMES,
    "frames, 1024 of them": MANY_FRAMES,
    "frames with an outcome": GAME_FRAMES,
    "frames with the largest outcome": dataclasses.replace(PLAIN_FRAMES, outcome=Outcome(1e15, False, 1.0, 0.0)),
    "done": protocol.Done(2, 18),
    "done with a ticket": protocol.Done(3, 1, "a" * 64),
    "done with a snapshot": protocol.Done(MOST, MOST, "", bytes(range(256))),
    "error": protocol.Error(0, "busy", "all 8 sessions of this server are taken"),
    "error, all that fits": protocol.Error(MOST, "🌍" * 64, "é" * 2048),
    "pong": protocol.Pong(1234.5678),
    "pong, unasked": protocol.Pong(0.0),
}


def pairs_accepted():
    """Bytes that `encode` does not make and every reader takes, with the message that they are."""
    pong, done = {"t": "pong", "sent_at": 1.5}, {"t": "done", "request": 1, "chunk": 2, "session": ""}
    strange = {"mood": "good", "nested": [[[{"a": [None, True, -1, 1.5, -(1 << 63), (1 << 64) - 1, []]}]]]}
    return [
        ("keys that nobody knows", {**strange, **pong}, protocol.Pong(1.5)),
        ("keys in another order", dict(reversed(done.items())), protocol.Done(1, 2)),
        ("a whole number as a number", {"t": "pong", "sent_at": 3}, protocol.Pong(3.0)),
        ("a float of 32 bits", msgpack.packb(pong, use_single_float=True), protocol.Pong(1.5)),
        (
            "an integer longer than need be",
            packed(done).replace(b"\x02", b"\xd3" + bytes(7) + b"\x02"),
            protocol.Done(1, 2),
        ),
        ("text with a longer head", packed(pong).replace(b"\xa4pong", b"\xdb\0\0\0\4pong"), protocol.Pong(1.5)),
    ]


def pairs_refused():
    """(why, header, payload) that no client may take for a message."""
    pong = {"t": "pong", "sent_at": 1.5}
    nested = b"\x83" + packed(pong)[1:] + packed("x") + b"\x91" * 2000 + b"\xc0"
    return [
        ("no header", b"", b""),
        ("not a map", packed([1]), b""),
        ("nil", b"\xc0", b""),
        ("the byte that msgpack never uses", b"\xc1", b""),
        ("cut short", packed(pong)[:-1], b""),
        ("a byte too many", packed(pong) + b"\xc0", b""),
        ("no type", packed({"sent_at": 1.5}), b""),
        ("a type that nobody knows", packed({**pong, "t": "gong"}), b""),
        ("a type that is a list", packed({**pong, "t": ["pong"]}), b""),
        ("a key that is no text", packed({**pong, 1: 2}), b""),
        ("a list of 4 billion", b"\x81\xa1t\xdd\xff\xff\xff\xff", b""),
        ("a map of 4 billion", b"\xdf\xff\xff\xff\xff", b""),
        ("text of 4 billion", b"\x81\xa1t\xdb\xff\xff\xff\xff", b""),
        ("text of 16385 bytes", packed({**pong, "x": "x" * 16385}), b""),
        ("a list of 1025", packed({**pong, "x": [0] * 1025}), b""),
        ("a map of 257", packed({**pong, **{str(n): n for n in range(255)}}), b""),
        ("2000 lists in each other", nested, b""),
        ("binary", packed({**pong, "x": b"x"}), b""),
        ("an extension", packed({**pong, "x": msgpack.ExtType(5, b"x")}), b""),
        ("a time", packed({**pong, "x": msgpack.Timestamp(1, 0)}), b""),
        ("text that is not UTF-8", packed(pong).replace(b"pong", b"po\xc3\x28"), b""),
        ("text with half a surrogate pair", packed({**pong, "x": "???"}).replace(b"???", b"\xed\xa0\x80"), b""),
        ("UTF-8 longer than need be", packed({**pong, "x": "??"}).replace(b"??", b"\xc0\x80"), b""),
        ("not a number", packed({**pong, "sent_at": float("nan")}), b""),
        ("infinite", packed({**pong, "sent_at": float("-inf")}), b""),
        ("a number over 1e15", packed({**pong, "sent_at": 1.1e15}), b""),
        ("true for a number", packed({**pong, "sent_at": True}), b""),
        ("text for a number", packed({**pong, "sent_at": "1.5"}), b""),
        ("a pong with a payload", packed(pong), b"x"),
        *refused_changes("done", protocol.Done(1, 2), DONE),
        *refused_changes("error", protocol.Error(1, "busy", ""), ERROR),
        *refused_changes("frames", PLAIN_FRAMES, FRAMES),
        *refused_changes("frames", JPEG_FRAMES, JPEGS),
        *((f"frames: outcome.{why}", *changed_outcome(change)) for why, change in OUTCOME.items()),
        *((f"frames: outcome without {key}", *lacking_outcome(key)) for key in outcome_fields.OUTCOME),
        *refused_changes("welcome", MESSAGES["welcome"], WELCOME),
        *((f"welcome: card.{why}", *changed_card(change)) for why, change in CARD.items()),
        *((f"{name} without {key}", *without(m, key)) for name, m in lacking() for key in header_keys(m)),
    ]


# What is changed, and why that is refused. "payload" changes the second part.
DONE = {
    "a negative count": {"request": -1},
    "a count over 2^63-1": {"request": 1 << 63},
    "true for a count": {"chunk": True},
    "a float for a count": {"chunk": 2.0},
    "text of 65 characters": {"session": "x" * 65},
    "nil for text": {"session": None},
}
ERROR = {
    "a code of 65 characters": {"code": "é" * 65},
    "a message of 2049 characters": {"message": "x" * 2049},
    "a payload": {"payload": b"x"},
}
FRAMES = {
    "a payload that is too short": {"payload": bytes(11)},
    "a payload that is too long": {"payload": bytes(13)},
    "three axes": {"shape": [2, 2, 3]},
    "four colours": {"shape": [1, 1, 3, 4]},
    "no frames": {"shape": [0, 2, 2, 3], "payload": b""},
    "more than 64 MiB": {"shape": [1 << 31, 1 << 31, 4, 3]},
    "a product that overflows 64 bits": {"shape": [1 << 62, 4, 1, 3], "payload": b""},
    "lengths of raw frames": {"lengths": [12]},
    "an unknown codec": {"codec": "gif"},
    "negative seconds": {"seconds": -0.5},
    "a list that is a number": {"lengths": 0},
    "an outcome that is nil": {"outcome": None},
    "an outcome that is a list": {"outcome": [1.0, False, 0.5, 0.5]},
}
OUTCOME = {
    "reward is not a number": {"reward": float("nan")},
    "reward is over 1e15": {"reward": 1.1e15},
    "reward is true": {"reward": True},
    "terminated is 1": {"terminated": 1},
    "terminated is nil": {"terminated": None},
    "reward_chance is below 0": {"reward_chance": -0.25},
    "reward_chance is text": {"reward_chance": "0.5"},
    "end_chance is over 1": {"end_chance": 1.25},
    "end_chance is infinite": {"end_chance": float("inf")},
}
JPEGS = {
    "more frames than lengths": {"lengths": [5]},
    "lengths that make up less than the payload": {"lengths": [3, 1]},
    "lengths that make up more than the payload": {"lengths": [3, 3]},
    "lengths whose sum overflows 64 bits": {"shape": [3, 8, 8, 3], "lengths": [MOST, MOST, 7]},
    "a shape over 64 MiB": {"shape": [2, 1 << 15, 1 << 15, 3]},
}
WELCOME = {
    "a payload": {"payload": b"x"},
    "no card": {"card": None},
    "an unknown codec": {"codec": "gif"},
}
CARD = {
    "height is 0": {"height": 0},
    "width is 0": {"width": 0},
    "fps is 0": {"fps": 0.0},
    "frames_per_chunk is 0": {"frames_per_chunk": 0},
    "scenes is empty": {"scenes": []},
    "scenes has 257": {"scenes": ["x"] * 257},
    "buttons has 65": {"buttons": ["x"] * 65},
    "buttons holds a number": {"buttons": [1]},
    "a button has 65 characters": {"buttons": ["x" * 65]},
    "name has 257 characters": {"name": "x" * 257},
    "takes_prompt is 1": {"takes_prompt": 1},
    "bindings is a list": {"bindings": []},
    "a binding leads to a number": {"bindings": {"w": 1}},
    "a key has 257 characters": {"bindings": {"x" * 257: "forward"}},
}


def refused_changes(name, message, changes):
    return [(f"{name}: {why}", *changed(message, change)) for why, change in changes.items()]


def changed(message, change):
    header, payload = protocol.encode(message)
    return packed({**msgpack.unpackb(header), **without_payload(change)}), change.get("payload", payload)


def changed_card(change):
    return changed(MESSAGES["welcome"], {"card": {**PLAIN_CARD.to_dict(), **change}})


def changed_outcome(change):
    return changed(GAME_FRAMES, {"outcome": {**dataclasses.asdict(GAME_FRAMES.outcome), **change}})


def lacking_outcome(key):
    whole = dataclasses.asdict(GAME_FRAMES.outcome)
    return changed(GAME_FRAMES, {"outcome": {name: value for name, value in whole.items() if name != key}})


def without(message, key):
    header, payload = protocol.encode(message)
    return packed({k: v for k, v in msgpack.unpackb(header).items() if k != key}), payload


def without_payload(values):
    return {key: value for key, value in values.items() if key != "payload"}


def lacking():
    return [(name, MESSAGES[name]) for name in ("welcome", "done", "error", "pong")] + [("frames", PLAIN_FRAMES)]


def header_keys(message):
    return [f.name for f in dataclasses.fields(message) if f.name not in ("payload", *protocol.OPTIONAL)]


def packed(value):
    return msgpack.packb(value, use_bin_type=True)


def as_json(value):
    """`value` as JSON holds it; see the module's docstring."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, WorldCard):
        return as_json(value.to_dict())
    if isinstance(value, Outcome):
        return as_json(dataclasses.asdict(value))
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return str(value) if type(value) is int and value > EXACT else value


def message_json(message):
    values = {f.name: (getattr(message, f.name), f.default) for f in dataclasses.fields(message)}
    said = {key: v for key, (v, default) in values.items() if key not in protocol.OPTIONAL or v != default}
    return {"t": type(message).__name__.lower(), **{key: as_json(value) for key, value in said.items()}}


def vectors():
    """What vectors.json holds."""
    messages, accepted = [], []
    for name, message in MESSAGES.items():
        header, payload = protocol.encode(message)
        sender = "server" if isinstance(message, FROM_SERVER) else "client"
        head = {"name": name, "from": sender, "header_hex": header.hex(), "payload_hex": payload.hex()}
        messages.append({**head, "message": message_json(message)})
    for name, header, message in pairs_accepted():
        blob = header if isinstance(header, bytes) else packed(header)
        head = {"name": name, "from": "server", "header_hex": blob.hex(), "payload_hex": ""}
        accepted.append({**head, "message": message_json(message)})
    refused = [{"why": why, "header_hex": h.hex(), "payload_hex": p.hex()} for why, h, p in pairs_refused()]
    return {"version": protocol.VERSION, "messages": messages, "accepted": accepted, "refused": refused}


def schema():
    """What schema.json holds. `optional`: may be nil; no key may be missing but those of `may_lack`."""
    whole = {
        protocol._arrays: {"type": "array", "maxItems": 3, "items": array_schema()},
        card_fields.read_card: card_schema(),
    }
    found = {}
    for name, (cls, checks) in protocol._KINDS.items():
        header = {field: whole.get(check) or fields.schema_of(check) for field, check in checks.items()}
        payload = "payload" in cls.__dataclass_fields__
        sender = "server" if cls in FROM_SERVER else "client"
        found[name] = {"from": sender, "header": header, "payload": payload}
    limits = {
        "header_bytes": protocol.MAX_HEADER,
        "payload_bytes": protocol.MAX_PAYLOAD,
        "text_bytes": 4 * protocol.MAX_PROMPT,
    }
    limits |= {"list_items": protocol.MAX_LIST, "map_keys": protocol.MAX_MAP}
    may_lack = list(protocol.OPTIONAL)
    return {
        "version": protocol.VERSION,
        "may_lack": may_lack,
        "limits": limits,
        "error_codes": list(protocol.CODES),
        "messages": found,
    }


def array_schema():
    """One array of a Reset: its name and its shape."""
    names = list(protocol._START_DTYPES)
    return {"type": "array", "prefixItems": [{"type": "string", "enum": names}, fields.schema_of(fields.sizes)]}


def card_schema():
    name = fields.schema_of(card_fields.NAME)
    parts = {key: fields.schema_of(check) for key, check in card_fields.CARD.items()}
    for key in ("height", "width", "frames_per_chunk"):
        parts[key] = {**parts[key], "minimum": 1}
    parts["fps"] = {"type": "number", "exclusiveMinimum": 0, "maximum": fields.MAX_NUMBER}
    parts["scenes"] = {**parts["scenes"], "minItems": 1}
    parts["bindings"] = {"type": "object", "propertyNames": name, "additionalProperties": name}
    buttons = {key: {"type": "string", "maxLength": 64} for key in ("left", "right", "up", "down")}
    counts = {"type": "number", "minimum": mouse.LEAST, "maximum": mouse.MOST}
    parts["mouse"] = {"type": "object", "properties": {"counts": counts, **buttons}, "optional": True}
    parts["outcomes"] = {**fields.schema_of(fields.flag), "optional": True}
    return {"type": "object", "properties": parts}


def files():
    """Name and text of each file."""
    tables = {key: value for key, value in vectors().items() if key != "version"}
    lists = ",\n".join(f'"{key}": [\n' + ",\n".join(map(dumped, rows)) + "\n]" for key, rows in tables.items())
    return {
        "vectors.json": f'{{"version": {protocol.VERSION},\n{lists}}}\n',
        "schema.json": json.dumps(schema(), indent=1) + "\n",
    }


def dumped(value):
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
