"""What a browser and a server say to each other through the gateway, without sockets."""

import json
import struct
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios_world.bridge import protocol
from helios_world.bridge.patience import BEGINNING, SILENCE
from helios_world.errors import ProtocolError
from helios_world.gateway import wire
from helios_world.gateway.relay import Relay
from helios_world.testing import FAKE_CARD

HELLO = protocol.Hello(protocol.VERSION, "test", "", ("jpeg",))
MESSAGES = [
    HELLO,
    protocol.Reset(1, None, 7),
    protocol.Reset(2, "maze", 7, "a coast", (("image", (1, 2, 3)),), bytes(6)),
    protocol.Step(3, frozenset({"forward", "attack"})),
    protocol.Act(4, 1.5, frozenset(), 2),
    protocol.Prompt(5, "queue", "wörter", 3, None),
    protocol.Restore(6, b"\0\xff"),
    protocol.Ping(0.25),
    protocol.Close(),
    protocol.Welcome(protocol.VERSION, FAKE_CARD, "ticket", "jpeg", 3),
    protocol.Frames(0, 5, 2, 0.5, (2, 4, 4, 3), "jpeg", (2, 1), 0.01, 9.0, b"abc"),
    protocol.Done(7, 4, payload=b"world"),
    protocol.Error(0, "busy", "all taken"),
]


def message(header, payload=b"", length=None):
    return struct.pack(">I", len(header) if length is None else length) + header + payload


@pytest.mark.parametrize("sent", MESSAGES, ids=lambda m: type(m).__name__)
def test_messages_come_back_as_they_were(sent):
    assert wire.unpack(wire.pack(sent)) == sent


GARBAGE = {
    "empty": b"",
    "a length alone": b"\0\0\0\1",
    "a length beyond the message": message(b"{}", length=1 << 31),
    "not text": message(b"\xff\xfe"),
    "not JSON": message(b"{'t'"),
    "a list": message(b"[]"),
    "without a type": message(b"{}"),
    "a type that is a map": message(b'{"t":{}}'),
    "an unknown type": message(b'{"t":"root"}'),
    "a message of the gateway": message(b'{"t":"lost"}'),
    "a field missing": message(b'{"t":"act","seq":1}'),
    "a number as text": message(b'{"t":"ping","sent_at":"1"}'),
    "not a number": message(b'{"t":"ping","sent_at":NaN}'),
    "a number beyond 64 bits": message(b'{"t":"reset","request":%d}' % 2**80),
    "a number of 5000 digits": message(b'{"t":"reset","request":' + b"9" * 5000 + b"}"),
    "true for a number": message(b'{"t":"snapshot","request":true}'),
    "below zero": message(b'{"t":"snapshot","request":-1}'),
    "half a surrogate": message(b'{"t":"hello","version":1,"client":"\\ud800","session":"","codecs":[]}'),
    "too deep": message(b'{"t":' + b"[" * 30000 + b"]" * 30000 + b"}"),
    "too many buttons": message(json.dumps({"t": "step", "request": 1, "buttons": ["x"] * 65}).encode()),
    "a payload where none belongs": message(b'{"t":"close"}', b"x"),
    "material of another size": wire.pack(MESSAGES[2])[:-1],
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_only_ever_a_protocol_error(data):
    with pytest.raises(ProtocolError):
        wire.unpack(data)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(message))
def test_any_bytes_are_a_message_or_a_protocol_error(data):
    for read in (wire.unpack, wire.unpack_token):
        try:
            read(data)
        except ProtocolError as error:
            assert "\n" not in str(error)


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), st.lists)


@given(st.sampled_from([m for m in MESSAGES if not hasattr(m, "payload")]), st.data())
def test_any_value_in_a_field_is_read_or_refused(sent, data):
    raw = wire.pack(sent)
    header = json.loads(raw[4:])
    field = data.draw(st.sampled_from(sorted(header)))
    header[field] = data.draw(json_values)
    try:
        assert protocol.encode(wire.unpack(message(json.dumps(header).encode())))
    except ProtocolError as error:
        assert str(error)


class Talk:
    """A relay, what it sent to either side, and a clock."""

    def __init__(self):
        self.relay, self.now = Relay(), 10.0
        self.relay.connected(self.now)

    def browser(self, *messages):
        for message in messages:
            self.relay.browser_said(message, self.now)
        return self.sent

    def server(self, *messages):
        for message in messages:
            self.relay.server_said(message, self.now)
        return self.sent

    def passes(self, seconds):
        self.now += seconds
        self.relay.watch(self.now)
        return self.sent

    @property
    def sent(self):
        """Since it was last asked for: to the server, to the browser."""
        sent = list(self.relay.to_server), list(self.relay.to_browser)
        self.relay.to_server, self.relay.to_browser = deque(), deque()
        return sent


def welcome(ticket="ticket", chunk=0):
    return protocol.Welcome(protocol.VERSION, FAKE_CARD, ticket, "jpeg", chunk)


def frames(index, request=0, seconds=0.0):
    return protocol.Frames(request, index, 0, 0.0, (1, 1, 1, 3), "raw", (), seconds, 0.0, b"abc")


@pytest.fixture
def talk():
    """In the middle of a game: chunk 3 came, and a snapshot of it."""
    talk = Talk()
    talk.browser(HELLO)
    talk.server(welcome())
    asked = talk.browser(protocol.Reset(1, None, 7))[0][0].request
    own = talk.server(frames(0, asked))[0][0]
    assert isinstance(own, protocol.Snapshot)
    talk.server(protocol.Done(own.request, 3, payload=b"saved"), frames(3))
    return talk


def test_replies_have_the_browsers_numbers_and_the_relays_own_go_nowhere(talk):
    asked, told = talk.browser(protocol.Prompt(40, "change", "a coast"), protocol.Fork(41))
    assert not told and [m.request for m in asked] == [3, 4]
    _, told = talk.server(protocol.Done(3, 5), protocol.Error(4, "busy", "full"), protocol.Done(99, 5))
    assert told == [protocol.Done(40, 5), protocol.Error(41, "busy", "full")]


def test_it_asks_for_a_snapshot_now_and_then_one_at_a_time(talk):
    talk.now += 2.0
    assert [type(m) for m in talk.server(frames(4))[0]] == [protocol.Snapshot]
    talk.now += 2.0
    assert talk.server(frames(5))[0] == []


def test_a_server_that_knows_the_world_goes_on_with_it(talk):
    talk.relay.lose()
    talk.relay.lose()
    assert talk.sent == ([], [wire.LOST])
    assert talk.browser(protocol.Act(9, 0.0, frozenset(), 4), protocol.Snapshot(2)) == ([], [])
    talk.relay.connected(talk.now)
    assert [m.session for m in talk.sent[0]] == ["ticket"]
    assert talk.server(welcome(chunk=4)) == ([], [welcome(chunk=4)])


def test_a_server_that_does_not_know_the_world_gets_the_snapshot(talk):
    talk.relay.lose()
    talk.relay.connected(talk.now)
    talk.sent  # noqa: B018
    (restore,), told = talk.server(welcome("another"))
    assert restore.payload == b"saved" and told == []
    assert talk.server(protocol.Done(restore.request, 3)) == ([], [welcome("another", 3)])
    talk.relay.lose()
    talk.relay.connected(talk.now)
    assert talk.sent[0][0].session == "another"


def test_a_snapshot_that_is_refused_leaves_the_beginning_to_the_browser(talk):
    talk.relay.lose()
    talk.relay.connected(talk.now)
    talk.sent  # noqa: B018
    (restore,), _ = talk.server(welcome("another"))
    assert talk.server(protocol.Error(restore.request, "bad_request", "of another world")) == ([], [welcome("another")])


def test_a_snapshot_of_the_old_world_is_not_kept_for_the_new_one(talk):
    (reset,), _ = talk.browser(protocol.Reset(2, None, 8))
    (own,), _ = talk.server(frames(0, reset.request))
    talk.relay.lose()
    talk.relay.connected(talk.now)
    talk.sent  # noqa: B018
    assert own.request > reset.request
    assert talk.server(welcome("another")) == ([], [welcome("another")])


def test_a_server_that_welcomes_unasked_is_not_listened_to(talk):
    idle = Talk()
    assert idle.server(welcome()) == ([], [])
    talk.relay.lose()
    talk.relay.connected(talk.now)
    talk.sent  # noqa: B018
    (own,), _ = talk.server(welcome("another"))
    talk.server(welcome("another", 4))
    assert talk.server(protocol.Done(own.request, 3)) == ([], []), "the world was welcomed already"


def test_a_silent_server_is_lost_and_a_slow_one_is_not(talk):
    for _ in range(3):
        assert isinstance(talk.passes(1.1)[0][0], protocol.Ping)
        talk.server(protocol.Pong(talk.now))
    talk.server(frames(4, seconds=2.0))
    talk.passes(SILENCE + 5.0)
    assert not talk.relay.is_lost
    talk.passes(1.5)
    assert talk.relay.is_lost and talk.sent == ([], []), "told with the ping before"


def test_a_world_may_take_long_to_begin(talk):
    talk.browser(protocol.Reset(2, None, 8))
    talk.passes(BEGINNING - 1)
    assert not talk.relay.is_lost
    talk.passes(2)
    assert talk.relay.is_lost


def test_a_session_that_is_over_is_taken_up_from_the_snapshot(talk):
    talk.server(protocol.Error(0, "unknown_session", "say hello first"))
    assert talk.relay.is_lost


def test_what_makes_no_sense_is_answered():
    talk = Talk()
    assert talk.browser(protocol.Snapshot(3))[1] == [
        protocol.Error(3, "unknown_session", "say hello first: this connection has no session")
    ]
    assert talk.browser(welcome())[1] == [protocol.Error(0, "bad_message", "only a server sends this message")]
    assert talk.browser(protocol.Ping(4.5)) == ([], [protocol.Pong(4.5)])


def test_requests_that_are_not_answered_do_not_pile_up(talk):
    asked, told = talk.browser(*(protocol.Snapshot(k) for k in range(10, 110)))
    assert len(asked) == 64 and len(told) == 36 and {m.code for m in told} == {"busy"}
