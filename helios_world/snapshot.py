"""A world as bytes, and back: one safetensors blob, on disk, on the wire and in memory alike."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from helios_world.errors import UserError
from helios_world.prompts import PromptTrack
from helios_world.world import WorldModel, WorldState

FORMAT = "helios-world-snapshot-1"
SUFFIX = ".world"
_DAMAGED = (KeyError, TypeError, ValueError, OverflowError, RecursionError)
_MOST = 1 << 63  # what a message counts up to; chunks end at half of it, so that a world can go on


def dump_snapshot(model: WorldModel, state: WorldState) -> bytes:
    """`state` as bytes that only the same world reads back, without `outcome`."""
    from safetensors.numpy import save

    header = {
        "format": FORMAT,
        "world": model.card.name,
        "scene": state.scene,
        "seed": state.seed,
        "chunk": state.chunk,
        "first": state.first,
        "prompts": state.prompts and state.prompts.to_dict(),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in model.to_arrays(state).items()}
    return save(arrays, metadata={"helios": json.dumps(header)})


def load_snapshot(model: WorldModel, data: bytes) -> WorldState:
    """The state in `data`. UserError if it is damaged or of another world."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays, header = load(bytes(data)), _header(data)
        kind, world = header["format"], header["world"]
        scene, seed, chunk = str(header["scene"]), int(header["seed"]), int(header["chunk"])
        first, words = bool(header.get("first", False)), header.get("prompts")
    except (SafetensorError, *_DAMAGED) as error:
        raise _damaged(error) from None
    if kind != FORMAT:
        raise UserError(f"snapshot has format {kind!r}: this version reads {FORMAT!r}")
    if world != model.card.name:
        raise UserError(f"snapshot is of world {world!r}: this one is {model.card.name!r}")
    prompts = None if words is None else PromptTrack.from_dict(words)
    if not 0 <= chunk < _MOST // 2 or not 0 <= seed < _MOST or (prompts is not None and prompts.chunk > chunk):
        raise UserError("snapshot is damaged: its chunk, its seed or the chunk of its prompts is out of range")
    head = WorldState(None, None, model.card.check_scene(scene), seed, chunk, prompts, first)
    return model.from_arrays(arrays, head)


def scene_and_seed(data: bytes) -> tuple[str, int]:
    """Of the world in `data`, without reading it. UserError if there is no telling."""
    try:
        header = _header(data)
        return str(header["scene"]), int(header["seed"])
    except _DAMAGED as error:
        raise _damaged(error) from None


def _header(data: bytes) -> Any:
    size = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["helios"])


def _damaged(error: Exception) -> UserError:
    return UserError(f"snapshot is damaged or not one of ours ({type(error).__name__}: {error})")


def write_bytes(path: Path, data: bytes) -> None:
    """Writes all of `data` or nothing: a crash leaves the old file, a full disk that alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    try:
        scratch.write_bytes(data)
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise
