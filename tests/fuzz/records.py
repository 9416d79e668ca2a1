"""One fuzzed input as a list of records, and back; and a mutator that knows what stands inside of them."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgpack

_HEAD = struct.Struct(">BH")  # flags, length of what follows
_LENGTH = struct.Struct(">I")
_MOST = 64  # records of one input
_WORDS = ("", "raw", "jpeg", "image", "video", "actions", "forward", "maze", "queue", "change", "f" * 32, "x" * 65)
_NUMBERS = (0, 1, 2, 3, 255, 1 << 32, (1 << 53) + 1, (1 << 62), (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -(1 << 63))
_REALS = (0.0, -0.0, 0.5, 1e15, -1e15, 1.1e15, 1e308, float("nan"), float("inf"))
_LONG = ("x" * 257, "x" * 2049, "🌍" * 4097, ["y" * 64] * 64, [(1 << 63) - 1] * 1024, [[["z"]]], {"a": {"b": []}})
_VALUES = (*_WORDS, *_NUMBERS, *_REALS, *_LONG, None, True, False, [], {})


@dataclass(frozen=True, slots=True)
class Record:
    """Bytes, and what a target is to do with them: it says what each flag means."""

    flags: int
    data: bytes


def split(data: bytes) -> list[Record]:
    """What any bytes say; what is missing at the end is empty."""
    found, at = [], 0
    while at + _HEAD.size <= len(data) and len(found) < _MOST:
        flags, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        found.append(Record(flags, data[at : at + length]))
        at += length
    return found


def join(records: Sequence[Record]) -> bytes:
    """The inverse of `split`."""
    return b"".join(_HEAD.pack(r.flags, len(r.data)) + r.data for r in records if len(r.data) < 1 << 16)


def mutator(mutate: Callable[[bytes, int], bytes]) -> Callable[[bytes, int, int], bytes]:
    """For libFuzzer: half the time its own `mutate`, else a change that leaves the rest of the input in order."""

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        records = split(data)
        if not records or rng.random() < 0.3:
            return mutate(data, max_size)
        for _ in range(rng.choice((1, 1, 2, 4))):
            records = _change_one(records, rng, mutate)
        return join(records)[:max_size]

    return change


def _change_one(records: list[Record], rng: random.Random, mutate: Callable[[bytes, int], bytes]) -> list[Record]:
    at = rng.randrange(len(records))
    old = records[at]
    match rng.randrange(8):
        case 0:
            return [*records[:at], old, *records[at:]]
        case 1 if len(records) > 1:
            return [*records[:at], *records[at + 1 :]]
        case 2:
            new = replace(old, flags=old.flags ^ 1 << rng.randrange(8))
        case 3:
            new = replace(old, data=mutate(old.data, len(old.data) + 64))
        case _:
            new = replace(old, data=change_value(old.data, rng))
    return [*records[:at], new, *records[at + 1 :]]


def change_value(data: bytes, rng: random.Random) -> bytes:
    """`data` with one value changed, if it is a header, a message for a browser, or a snapshot."""
    for read, write in _FORMS:
        try:
            tree, rest = read(data)
            if isinstance(tree, dict) and tree:
                return write(_changed(tree, rng), rest)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, struct.error):
            continue
        except msgpack.exceptions.UnpackException:
            continue
    return data


def _changed(tree: Any, rng: random.Random) -> Any:
    """`tree` with one of its values, or one that one of those holds, in another form."""
    if isinstance(tree, str) and tree[:1] == "{" and rng.random() < 0.9:  # JSON inside JSON, as a snapshot has it
        return json.dumps(_changed(json.loads(tree), rng))
    if isinstance(tree, dict | list) and tree and rng.random() < 0.85:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        key = rng.choice(keys)
        copied = tree.copy()
        if rng.random() < 0.1:
            del copied[key]
        else:
            copied[key] = _changed(tree[key], rng)
        return copied
    if isinstance(tree, int) and rng.random() < 0.3:
        return tree + rng.choice((-1, 1))
    if isinstance(tree, list) and rng.random() < 0.3:
        return tree * rng.choice((2, 20))
    return rng.choice(_VALUES)


def _read_header(data: bytes) -> tuple[Any, bytes]:
    return msgpack.unpackb(data, raw=False), b""


def _write_header(tree: Any, rest: bytes) -> bytes:
    return msgpack.packb(tree)


def _read_browser(data: bytes) -> tuple[Any, bytes]:
    end = 4 + _LENGTH.unpack_from(data)[0]
    return json.loads(data[4:end]), data[end:]


def _write_browser(tree: Any, rest: bytes) -> bytes:
    words = json.dumps(tree).encode()
    return _LENGTH.pack(len(words)) + words + rest


def _read_snapshot(data: bytes) -> tuple[Any, bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def _write_snapshot(tree: Any, rest: bytes) -> bytes:
    words = json.dumps(tree).encode()
    words += b" " * (-len(words) % 8)
    return len(words).to_bytes(8, "little") + words + rest


_FORMS = ((_read_header, _write_header), (_read_browser, _write_browser), (_read_snapshot, _write_snapshot))
