"""Snapshots: bytes that only the same world reads back."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from helios_world import UserError, WorldEngine
from helios_world.card import WorldCard
from helios_world.snapshot import dump_snapshot, load_snapshot, scene_and_seed, write_bytes
from helios_world.testing import FAKE_CARD, FakeWorldModel

MODEL = FakeWorldModel()


def state_after(steps):
    session, _ = WorldEngine(MODEL).open("hall", seed=7)
    for _ in range(steps):
        session.step()
    return session.state


def test_a_state_survives_the_round_trip():
    state = state_after(3)
    back = load_snapshot(MODEL, dump_snapshot(MODEL, state))
    assert (back.scene, back.seed, back.chunk) == ("hall", 7, 4)
    assert np.array_equal(back.history, state.history) and np.array_equal(back.anchor, state.anchor)


def test_scene_and_seed_are_told_without_the_world():
    data = dump_snapshot(MODEL, state_after(1))
    size = int.from_bytes(data[:8], "little")
    assert scene_and_seed(data[: 8 + size]) == ("hall", 7)
    for damaged in (b"", b"01234567", data[: size // 2], data.replace(b'\\"seed', b'\\"seen')):
        with pytest.raises(UserError, match="damaged"):
            scene_and_seed(damaged)


def test_the_same_state_gives_the_same_bytes():
    assert dump_snapshot(MODEL, state_after(2)) == dump_snapshot(MODEL, state_after(2))


def test_a_snapshot_of_another_world_is_refused():
    other = FakeWorldModel(WorldCard.from_dict({**FAKE_CARD.to_dict(), "name": "moon"}))
    with pytest.raises(UserError, match="snapshot is of world 'fake': this one is 'moon'"):
        load_snapshot(other, dump_snapshot(MODEL, state_after(0)))


def test_every_truncation_is_refused():
    data = dump_snapshot(MODEL, state_after(1))
    for size in range(0, len(data), 7):
        with pytest.raises(UserError, match="damaged"):
            load_snapshot(MODEL, data[:size])


@pytest.mark.parametrize("change", [(b"snapshot-1", b"snapshot-9"), (b'"chunk', b'"chump'), (b"hall", b"hell")])
def test_a_changed_header_is_refused(change):
    data = dump_snapshot(MODEL, state_after(1))
    # The header is JSON inside JSON, so its quotes are escaped.
    old, new = (part.replace(b'"', b'\\"') for part in change)
    assert old in data
    with pytest.raises(UserError):
        load_snapshot(MODEL, data.replace(old, new))


OUT_OF_RANGE = {"chunk": [-1, 1 << 62, 1 << 64, float("inf")], "seed": [-1, 1 << 63, float("inf")]}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in OUT_OF_RANGE.items() for value in values])
def test_numbers_that_no_message_could_carry_are_refused(key, value):
    with pytest.raises(UserError, match="damaged"):
        load_snapshot(MODEL, with_values(**{key: value}))


def test_prompts_of_a_later_chunk_and_endless_nesting_are_refused():
    later = {"base": [["a", 1.0]], "changes": [], "chunk": 3}
    with pytest.raises(UserError, match="damaged"):
        load_snapshot(MODEL, with_values(prompts=later))
    nested = "[" * 100_000
    data = save({"history": np.zeros((1, 1, 1, 1), np.float32)}, metadata={"helios": nested})
    with pytest.raises(UserError, match="damaged"):
        load_snapshot(MODEL, data)


def with_values(**values):
    """The snapshot of chunk 2 with other values in its header."""
    data = dump_snapshot(MODEL, state_after(1))
    size = int.from_bytes(data[:8], "little")
    header = {**json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["helios"]), **values}
    return save(load(data), metadata={"helios": json.dumps(header)})


def test_garbage_is_refused():
    rng = np.random.default_rng(0)
    for size in (0, 1, 8, 100, 5000):
        with pytest.raises(UserError):
            load_snapshot(MODEL, rng.bytes(size))


def test_write_bytes_replaces_all_or_nothing(tmp_path):
    path = tmp_path / "saves" / "quick.world"
    write_bytes(path, b"first")
    (tmp_path / "saves" / "quick.world.part").mkdir()  # stands in the way of the scratch file
    with pytest.raises(OSError, match=r"quick\.world\.part"):
        write_bytes(path, b"second")
    assert path.read_bytes() == b"first"
    (tmp_path / "saves" / "quick.world.part").rmdir()
    write_bytes(path, b"second")
    assert [p.name for p in path.parent.iterdir()] == ["quick.world"] and path.read_bytes() == b"second"
