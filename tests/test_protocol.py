"""The protocol: every message round-trips; whatever else comes is a ProtocolError and nothing worse."""

import re

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios_world.bridge import card_fields, protocol
from helios_world.card import WorldCard
from helios_world.errors import ProtocolError
from helios_world.testing import FAKE_CARD, GAME_CARD
from helios_world.world import Outcome, Start

counts = st.integers(0, (1 << 63) - 1)
numbers = st.floats(-1e15, 1e15)
chances = st.floats(0, 1)
short = st.text(max_size=64)
buttons = st.frozensets(short, max_size=20)
blobs = st.binary(max_size=200)
sizes = st.integers(1, 3)
cards = st.builds(
    WorldCard,
    name=short,
    height=st.integers(1, 4096),
    width=st.integers(1, 4096),
    fps=st.floats(0.1, 1000),
    frames_per_chunk=st.integers(1, 64),
    buttons=st.lists(short, max_size=10).map(tuple),
    scenes=st.lists(short, min_size=1, max_size=10).map(tuple),
    bindings=st.dictionaries(short, short, max_size=20),
    outcomes=st.booleans(),
)


@st.composite
def frames_messages(draw):
    codec = draw(st.sampled_from(protocol.CODECS))
    shape = (draw(sizes), draw(sizes), draw(sizes), 3)
    lengths = draw(st.lists(st.integers(0, 20), min_size=shape[0], max_size=shape[0])) if codec != "raw" else []
    size = sum(lengths) if codec != "raw" else int(np.prod(shape))
    payload = draw(st.binary(min_size=size, max_size=size))
    head = [draw(s) for s in (counts, counts, counts, numbers)]
    seconds, made_at = draw(st.floats(0, 1e9)), draw(numbers)
    outcome = draw(st.none() | st.builds(Outcome, numbers, st.booleans(), chances, chances))
    return protocol.Frames(*head, shape, codec, tuple(lengths), seconds, made_at, payload, outcome=outcome)


@st.composite
def reset_messages(draw):
    height, width, frames, held = (draw(sizes) for _ in range(4))
    material = draw(st.sampled_from(["nothing", "image", "video", "video and actions"]))
    start = {
        "nothing": Start(prompt=draw(st.none() | short)),
        "image": Start(image=np.full((height, width, 3), 7, np.uint8)),
        "video": Start(video=np.full((frames, height, width, 3), 8, np.uint8)),
        "video and actions": Start(
            video=np.zeros((frames, height, width, 3), np.uint8), actions=np.ones((frames, held), np.float32)
        ),
    }[material]
    return protocol.Reset(draw(counts), draw(st.none() | short), draw(counts), *protocol.pack_start(start))


by_type = {
    protocol.Hello: st.builds(
        protocol.Hello, counts, short, st.text(max_size=64), st.lists(st.text(max_size=16), max_size=16).map(tuple)
    ),
    protocol.Reset: reset_messages(),
    protocol.Step: st.builds(protocol.Step, counts, buttons, st.tuples(numbers, numbers)),
    protocol.Act: st.builds(protocol.Act, counts, numbers, buttons, counts, st.tuples(numbers, numbers)),
    protocol.Prompt: st.builds(
        protocol.Prompt, counts, st.sampled_from(protocol.PROMPT_VERBS), short, counts, st.none() | counts
    ),
    protocol.Snapshot: st.builds(protocol.Snapshot, counts),
    protocol.Restore: st.builds(protocol.Restore, counts, blobs),
    protocol.Fork: st.builds(protocol.Fork, counts),
    protocol.Invite: st.builds(protocol.Invite, counts, st.sampled_from(protocol.INVITE_VERBS)),
    protocol.Ping: st.builds(protocol.Ping, numbers),
    protocol.Close: st.builds(protocol.Close),
    protocol.Welcome: st.builds(
        protocol.Welcome, counts, cards, short, st.sampled_from(protocol.CODECS), counts, counts
    ),
    protocol.Frames: frames_messages(),
    protocol.Done: st.builds(protocol.Done, counts, counts, short, blobs),
    protocol.Error: st.builds(protocol.Error, counts, short, short),
    protocol.Pong: st.builds(protocol.Pong, numbers),
}
messages = st.one_of(*by_type.values())


@given(messages)
@settings(max_examples=400, deadline=None)
def test_every_message_round_trips(message):
    parts = protocol.encode(message)
    assert len(parts) == 2
    assert protocol.decode(parts) == message
    assert protocol.encode(protocol.decode(parts)) == parts


def test_every_message_type_is_generated_above():
    assert set(by_type) == set(protocol.Message.__args__)


@given(st.lists(st.binary(max_size=300), max_size=4))
@settings(max_examples=500, deadline=None)
def test_arbitrary_bytes_give_only_protocol_errors(parts):
    try:
        protocol.decode(parts)
    except ProtocolError:
        return
    # A few short inputs are real messages; those must be stable.
    assert protocol.decode(protocol.encode(protocol.decode(parts))) == protocol.decode(parts)


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=9) | blobs,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)


@given(messages, st.data())
@settings(max_examples=500, deadline=None)
def test_a_message_with_one_wrong_value_is_refused_or_stays_a_message(message, data):
    head, payload = protocol.encode(message)
    header = msgpack.unpackb(head)
    key = data.draw(st.sampled_from(sorted(header)))
    header[key] = data.draw(junk)
    try:
        protocol.decode([msgpack.packb(header), payload])
    except ProtocolError as error:
        assert "\n" not in str(error)


@given(messages, st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_or_cut_message_gives_only_protocol_errors(message, data):
    parts = protocol.encode(message)
    which = data.draw(st.integers(0, 1))
    blob = bytearray(parts[which])
    if blob and data.draw(st.booleans()):
        blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        blob = blob[: data.draw(st.integers(0, len(blob)))]
    parts[which] = bytes(blob)
    try:
        decoded = protocol.decode(parts)
    except ProtocolError:
        return
    assert type(decoded) in protocol.Message.__args__


@pytest.mark.parametrize(
    "header",
    [
        b"\x91" * 60000,  # arrays in arrays
        b"\xdd\xff\xff\xff\xff",  # an array of 4 billion
        b"\xdf\xff\xff\xff\xff",  # a map of 4 billion
        b"\xdb\xff\xff\xff\xff",  # text of 4 billion
        msgpack.packb({"t": "ping", "sent_at": float("nan")}),
        msgpack.packb({"t": "ping", "sent_at": True}),
        msgpack.packb({"t": "snapshot", "request": -1}),
        msgpack.packb({"t": "snapshot", "request": 1 << 63}),
        msgpack.packb({"t": ["snapshot"], "request": 1}),
        msgpack.packb({"t": "ping", "sent_at": msgpack.Timestamp(1, 0)}),
        msgpack.packb({1: "ping"}),
        msgpack.packb({"t": "step", "request": 1, "buttons": ["x"] * 65}),
        msgpack.packb({"t": "hello", "version": 1, "client": "\udc80".encode("utf8", "surrogatepass"), "session": ""}),
    ],
)
def test_hostile_headers_are_refused(header):
    with pytest.raises(ProtocolError):
        protocol.decode([header, b""])


def test_unknown_keys_are_ignored_so_that_a_later_version_may_add_some():
    header = msgpack.packb({"t": "ping", "sent_at": 1.5, "mood": "good"})
    assert protocol.decode([header, b""]) == protocol.Ping(1.5)


@pytest.mark.parametrize("mouse", [None, 1.5, [1.0], [1.0, 2.0, 3.0], [1.0, "2"], [1.0, float("nan")], {"x": 1.0}])
def test_a_mouse_is_two_numbers_or_is_not_there(mouse):
    said = {"t": "act", "seq": 1, "sent_at": 0.5, "buttons": [], "wanted": 0}
    assert protocol.decode([msgpack.packb(said), b""]) == protocol.Act(1, 0.5, frozenset())
    with pytest.raises(ProtocolError, match=r"act\.mouse"):
        protocol.decode([msgpack.packb({**said, "mouse": mouse}), b""])


@pytest.mark.parametrize("mouse", [3, {}, {"counts": 0}, {"counts": 5, "left": "jump"}, {"counts": "5"}])
def test_a_card_with_a_mouse_that_is_none_is_refused(mouse):
    header, _ = protocol.encode(protocol.Welcome(1, FAKE_CARD, "", "raw", 0))
    said = msgpack.unpackb(header)
    said["card"]["mouse"] = mouse
    with pytest.raises(ProtocolError, match=r"card\.mouse"):
        protocol.decode([msgpack.packb(said), b""])


@pytest.mark.parametrize("outcomes", [None, 0, 1, "true", {}])
def test_a_card_says_true_or_false_of_outcomes(outcomes):
    header, _ = protocol.encode(protocol.Welcome(1, GAME_CARD, "", "raw", 0))
    said = msgpack.unpackb(header)
    assert said["card"]["outcomes"] is True
    said["card"]["outcomes"] = outcomes
    with pytest.raises(ProtocolError, match=r"card\.outcomes must be true or false"):
        protocol.decode([msgpack.packb(said), b""])


def test_an_outcome_may_be_missing_and_later_versions_may_say_more_in_it():
    frames = protocol.Frames(1, 2, 0, 0.0, (1, 1, 1, 3), "raw", (), 0.1, 0.0, b"abc", outcome=Outcome(2.0, True))
    header, payload = protocol.encode(frames)
    said = msgpack.unpackb(header)
    more = {**said, "outcome": {**said["outcome"], "mood": "good"}}
    assert protocol.decode([msgpack.packb(more), payload]) == frames
    del said["outcome"]
    assert protocol.decode([msgpack.packb(said), payload]).outcome is None


def test_a_start_travels_exactly():
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (5, 6, 7, 3), np.uint8)
    actions = rng.random((5, 2)).astype(np.float32)
    sent = protocol.Reset(1, "maze", 9, *protocol.pack_start(Start(video=video, actions=actions)))
    start = protocol.unpack_start(protocol.decode(protocol.encode(sent)))
    assert start.image is None
    np.testing.assert_array_equal(start.video, video)
    np.testing.assert_array_equal(start.actions, actions)


def test_the_page_says_what_the_code_does(pytestconfig):
    """Every message, key and error code of the protocol stands in docs/protocol.md."""
    page = (pytestconfig.rootpath / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*)$", page, re.MULTILINE))
    for name, (_, checks) in protocol._KINDS.items():
        assert name in rows, f"{name} is not there"
        missing = {key for key in checks if f"`{key}`" not in rows[name]}
        assert not missing, f"{name}: {missing}"
    assert all(f"`{key}`" in page for key in card_fields.CARD)
    assert set(protocol.CODES) <= set(rows)
