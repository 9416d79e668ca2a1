"""The server over a real socket: it survives what comes, does nothing twice, and lets nobody wait for another."""

import json
import threading
import time

import msgpack
import numpy as np
import pytest
import zmq
from safetensors.numpy import load, save

from helios_world.action import Action
from helios_world.bridge import codecs, protocol
from helios_world.bridge.server import LEASE, WorldServer
from helios_world.engine import WorldEngine
from helios_world.errors import UserError
from helios_world.testing import FAKE_CARD, FakeWorldModel


class CountingModel(FakeWorldModel):
    """Counts steps and preparations; fails while `broken` names the seed of a state."""

    def __init__(self, **options):
        super().__init__(**options)
        self.batches, self.prepared, self.broken = [], 0, None

    def step(self, states, actions, contexts=None):
        if self.broken in [state.seed for state in states]:
            raise RuntimeError("out of luck")
        self.batches.append(len(states))
        return super().step(states, actions, contexts)

    def prepare(self, state):
        self.prepared += 1
        return super().prepare(state)


class Peer:
    """A client that sends exactly what a test says."""

    def __init__(self, address, *, hello=True, ticket=""):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)
        if hello:
            self.send(protocol.Hello(protocol.VERSION, "test", ticket))
            self.welcome = self.receive()

    def send(self, *messages):
        for message in messages:
            self.socket.send_multipart(protocol.encode(message))

    def receive(self, timeout=5.0, *, probes=False):
        """The next message; the server's asking whether we are still there only with `probes`."""
        while True:
            assert self.socket.poll(int(timeout * 1000)), "the server said nothing"
            message = protocol.decode(self.socket.recv_multipart())
            if probes or message != protocol.Pong(0.0):
                return message

    def ask(self, *messages):
        self.send(*messages)
        return self.receive()

    def silent(self, seconds=0.15):
        return not self.socket.poll(int(seconds * 1000))

    def start(self, seed=0):
        return self.ask(protocol.Reset(1, None, seed))


class Live:
    """A server in a thread, and the peers of a test."""

    def __init__(self, model, **options):
        self.model = model
        self.server = WorldServer(WorldEngine(model), **options)
        self.stop, self.peers = threading.Event(), []
        self.thread = threading.Thread(target=self.server.serve, args=(self.stop.is_set,))
        self.thread.start()

    def peer(self, **options):
        self.peers.append(Peer(self.server.address, **options))
        return self.peers[-1]

    def close(self):
        self.stop.set()
        self.thread.join(5)
        assert not self.thread.is_alive()
        for peer in self.peers:
            peer.socket.close()
        self.server.close()


@pytest.fixture
def serve():
    lives = []

    def start(model=None, **options):
        lives.append(Live(model or CountingModel(), **options))
        return lives[-1]

    yield start
    for live in lives:
        live.close()


def act(seq, *buttons, wanted=0):
    return protocol.Act(seq, seq / 10, frozenset(buttons), wanted)


def test_hello_gives_the_card_and_a_ticket(serve):
    live = serve()
    welcome = live.peer().welcome
    assert welcome.card == live.model.card
    assert (welcome.version, welcome.codec, welcome.chunk, len(welcome.session)) == (protocol.VERSION, "raw", 0, 32)


def test_another_version_is_refused(serve):
    peer = serve().peer(hello=False)
    reply = peer.ask(protocol.Hello(99, "test"))
    assert (reply.code, "99" in reply.message) == ("version", True)


@pytest.mark.parametrize(
    ("reads", "chosen"), [(("raw", "jpeg"), "raw"), (("av1", "jpeg"), "jpeg"), (("h264", "jpeg", "raw"), "raw")]
)
def test_the_codec_is_one_that_the_client_reads(serve, reads, chosen):
    peer = serve().peer(hello=False)
    assert peer.ask(protocol.Hello(protocol.VERSION, "test", codecs=reads)).codec == chosen
    peer.start()
    frames = peer.ask(protocol.Step(2, frozenset()))
    assert frames.codec == chosen and codecs.unpack_frames(frames).shape == (4, *FAKE_CARD.frame_shape)


def test_a_client_that_reads_nothing_of_ours_is_refused(serve):
    reply = serve().peer(hello=False).ask(protocol.Hello(protocol.VERSION, "test", codecs=("av1",)))
    assert (reply.code, reply.message) == (
        "codec",
        f"client reads av1: this server has {', '.join(codecs.available())}",
    )


def test_a_tap_shorter_than_a_chunk_acts(serve):
    live = serve()
    peer = live.peer()
    peer.start()
    idle = peer.ask(act(1, wanted=1))
    peer.send(act(2, "attack"), act(3))
    tapped = peer.ask(act(4, wanted=2))
    after = peer.ask(act(5, wanted=3))
    brightness = [codecs.unpack_frames(m).mean() for m in (idle, tapped, after)]
    assert brightness[1] > brightness[0] + 20
    assert brightness[2] == pytest.approx(brightness[0], abs=2)
    assert (tapped.index, tapped.seq, tapped.sent_at) == (2, 4, 0.4)


def test_a_chunk_asked_for_again_is_not_made_again(serve):
    live = serve()
    peer = live.peer()
    peer.start()
    first = peer.ask(act(1, wanted=1))
    again = peer.ask(act(2, wanted=1))
    assert again.payload == first.payload and again.index == 1
    assert peer.ask(act(3, wanted=2)).index == 2
    assert peer.ask(act(4, wanted=1)).index == 2  # newest wins
    assert sum(live.model.batches) == 2


def test_an_act_of_the_past_changes_nothing(serve):
    live = serve()
    peer = live.peer()
    peer.start()
    assert peer.ask(act(5, wanted=1)).seq == 5
    peer.send(act(4, "attack", wanted=2))
    assert peer.silent()
    assert peer.ask(act(6, wanted=2)).index == 2


def test_a_retried_request_never_steps_twice(serve):
    live = serve()
    peer = live.peer()
    peer.start()
    step = protocol.Step(2, frozenset({"forward"}))
    first, second = peer.ask(step), peer.ask(step)
    assert first == second and first.index == 1
    peer.send(protocol.Step(3, frozenset()), protocol.Step(3, frozenset()), step)
    third = peer.receive()
    assert third.index == 2
    assert peer.silent() or peer.receive() == third  # the outdated 2 is never answered
    assert peer.silent()
    assert sum(live.model.batches) == 2


def test_a_retry_over_a_new_connection_gets_the_same_reply(serve):
    live = serve()
    peer = live.peer()
    peer.start()
    first = peer.ask(protocol.Step(2, frozenset()))
    peer.socket.close()
    other = live.peer(ticket=peer.welcome.session)
    assert (other.welcome.session, other.welcome.chunk) == (peer.welcome.session, 2)
    assert other.ask(protocol.Step(2, frozenset())) == first
    assert sum(live.model.batches) == 1


def test_requests_of_one_client_are_done_in_order(serve):
    live = serve()
    peer = live.peer()
    peer.start()
    requests = [protocol.Step(2, frozenset()), protocol.Snapshot(3), protocol.Step(4, frozenset())]
    peer.send(*requests)
    replies = [peer.receive() for _ in requests]
    assert [r.request for r in replies] == [2, 3, 4]
    assert [replies[0].index, replies[1].chunk, replies[2].index] == [1, 2, 2]


def test_sessions_that_are_ready_together_are_stepped_in_one_batch(serve):
    live = serve(CountingModel(seconds=0.1))
    peers = [live.peer() for _ in range(4)]
    for seed, peer in enumerate(peers):
        peer.start(seed)
    peers[0].send(protocol.Step(2, frozenset()))
    time.sleep(0.03)
    for peer in peers[1:]:
        peer.send(protocol.Step(2, frozenset()))
    assert [peer.receive().index for peer in peers] == [1] * 4
    assert live.model.batches == [1, 3]


def test_it_works_ahead_while_nobody_asks(serve):
    live = serve()
    peer = live.peer()
    peer.start()
    for request in (2, 3):  # after the start, and after a step
        deadline = time.monotonic() + 3
        while live.model.prepared < request - 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert live.model.prepared == request - 1
        peer.ask(protocol.Step(request, frozenset()))


def test_garbage_never_stops_the_server(serve):
    live = serve()
    good = live.peer()
    good.start()
    bad = live.peer(hello=False)
    rng = np.random.default_rng(0)
    for k in range(300):
        parts = [rng.bytes(int(rng.integers(0, 80))) for _ in range(int(rng.integers(1, 5)))]
        bad.socket.send_multipart(parts, zmq.DONTWAIT if k % 2 else 0)
    assert bad.receive().code == "bad_message"
    while bad.socket.poll(500):  # a stranger that does not read gets no queue: it may have missed answers, so it reads
        bad.socket.recv_multipart()
    bad.send(protocol.Pong(1.0), protocol.Close(), protocol.Step(1, frozenset()))
    while (reply := bad.receive()).code == "bad_message":
        pass
    assert reply.code == "unknown_session"
    raw = zmq.Context.instance().socket(zmq.STREAM)
    raw.linger = 0
    raw.connect(live.server.address)
    raw.send_multipart([raw.recv_multipart()[0], rng.bytes(5000)])
    assert good.ask(protocol.Step(2, frozenset())).index == 1
    raw.close()
    assert live.thread.is_alive()


def test_a_server_that_is_never_idle_keeps_nobody_who_left():
    server = WorldServer(WorldEngine(FakeWorldModel()))
    guest, flood = Peer(server.address, hello=False), Peer(server.address, hello=False)
    guest.send(protocol.Hello(protocol.VERSION, "test", ""), protocol.Reset(1, None, 0), protocol.Close())
    flood.send(*[protocol.Ping(0.0)] * 1500)
    time.sleep(0.2)
    server.turn(0.1)
    assert server._socket.poll(0), "more waits than one turn takes"
    assert guest.receive().session and guest.receive().index == 0
    assert not server._seats and not server._ahead
    guest.socket.close()
    flood.socket.close()
    server.close()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (protocol.Step(2, frozenset({"jump"})), "bad_request"),
        (protocol.Reset(2, "moon", 0), "bad_request"),
        (protocol.Restore(2, b"nonsense"), "bad_request"),
        (protocol.Pong(0.0), "bad_message"),
        (act(1, "jump"), "bad_request"),
    ],
)
def test_what_is_not_allowed_is_refused_and_the_world_goes_on(serve, message, code):
    peer = serve().peer()
    peer.start()
    reply = peer.ask(message)
    assert (reply.code, reply.message.count("\n")) == (code, 0)
    assert peer.ask(protocol.Step(3, frozenset())).index == 1


def test_what_is_refused_is_answered_by_a_message(serve):
    peer = serve().peer(hello=False)
    shape = [(1 << 63) - 1] * 1024
    header = {"t": "frames", "request": 0, "index": 0, "seq": 0, "sent_at": 0, "shape": shape, "codec": "raw"}
    peer.socket.send_multipart([msgpack.packb({**header, "lengths": [], "seconds": 0, "made_at": 0}), b""])
    assert peer.receive().message == "frames have 1024 axes: must have 4"


def test_a_snapshot_that_no_message_could_tell_of_ends_no_server(serve):
    """Its chunk would not fit into the welcome, nor into the frames: who said hello again ended the server for all."""
    peer = (live := serve()).peer()
    peer.start()
    saved = peer.ask(protocol.Snapshot(2)).payload
    header = json.loads(json.loads(saved[8 : 8 + int.from_bytes(saved[:8], "little")])["__metadata__"]["helios"])
    hostile = save(load(saved), metadata={"helios": json.dumps({**header, "chunk": 1 << 64})})
    assert peer.ask(protocol.Restore(3, hostile)).code == "bad_request"
    assert live.peer(ticket=peer.welcome.session).ask(protocol.Step(4, frozenset())).index == 1


@pytest.mark.parametrize("message", [protocol.Step(1, frozenset()), protocol.Snapshot(1), protocol.Fork(1)])
def test_without_a_world_there_is_nothing_to_do(serve, message):
    assert serve().peer().ask(message).code == "no_world"


def test_an_engine_failure_ends_no_session(serve, caplog):
    live = serve(CountingModel(seconds=0.05))
    peers = [live.peer() for _ in range(3)]
    for seed, peer in enumerate(peers):
        peer.start(seed)
    live.model.broken = 1
    peers[0].send(protocol.Step(2, frozenset()))
    time.sleep(0.02)
    peers[1].send(protocol.Step(2, frozenset()))  # in one batch with the next
    peers[2].send(act(1, wanted=1))
    assert peers[0].receive().index == 1
    failed = peers[1].receive()
    assert (failed.code, "out of luck" in failed.message) == ("engine", True)
    assert peers[2].receive().index == 1
    live.model.broken = None
    assert peers[1].ask(protocol.Step(3, frozenset())).index == 1
    assert "out of luck" in caplog.text


def test_a_full_server_says_busy_but_a_vacant_session_makes_room(serve):
    live = serve(max_sessions=2)
    first, second = live.peer(), live.peer()
    assert live.peer().welcome.code == "busy"
    first.start()
    assert first.ask(protocol.Fork(2)).code == "busy"
    second.socket.close()
    time.sleep(0.1)
    assert isinstance(live.peer().welcome, protocol.Welcome)
    assert first.ask(protocol.Step(3, frozenset())).index == 1


def test_a_silent_player_loses_its_session_and_a_thinking_one_keeps_it(serve):
    now = [0.0]
    live = serve(max_sessions=3, clock=lambda: now[0])
    player, thinker = live.peer(), live.peer()
    player.start()
    thinker.start()
    player.ask(act(1, wanted=1))
    now[0] = LEASE + 1
    assert thinker.receive(probes=True) == protocol.Pong(0.0)  # "are you still there?"
    assert thinker.ask(protocol.Step(2, frozenset())).index == 1
    reply = player.ask(protocol.Step(2, frozenset()))
    assert reply.code == "unknown_session"


def test_a_client_that_takes_nothing_delays_nobody(serve):
    live = serve()
    slow, fast = live.peer(), live.peer()
    slow.start()
    fast.start()
    times = {"alone": [], "beside": []}
    for k in range(120):
        if k >= 60:  # asks on and on, reads nothing
            slow.send(*[act(20 * k + i, wanted=1 << 40) for i in range(3)])
        began = time.perf_counter()
        fast.ask(protocol.Step(k + 2, frozenset()))
        times["alone" if k < 60 else "beside"].append(time.perf_counter() - began)
    assert np.median(times["beside"]) < np.median(times["alone"]) + 0.005
    assert live.thread.is_alive()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tcp://0.0.0.0:0", "beyond this machine, without keys"),
        ("tcp://*:0", "beyond this machine, without keys"),
        ("tcp://10.0.0.1:5557", "beyond this machine, without keys"),
        ("nonsense", "must be like tcp://127.0.0.1:5557"),
        ("tcp://127.0.0.1", "must be like tcp://127.0.0.1:5557"),
    ],
)
def test_only_loopback_unless_told_otherwise(address, words):
    with pytest.raises(UserError, match=words):
        WorldServer(WorldEngine(FakeWorldModel()), address)


def test_a_port_in_use_is_named(serve):
    address = serve().server.address
    with pytest.raises(UserError, match=f"{address} is in use"):
        WorldServer(WorldEngine(FakeWorldModel()), address)


def test_bad_options_are_refused():
    with pytest.raises(UserError, match="codec"):
        WorldServer(WorldEngine(FakeWorldModel()), codec="gif")
    with pytest.raises(UserError, match="max_sessions"):
        WorldServer(WorldEngine(FakeWorldModel()), max_sessions=0)


def test_the_same_actions_in_real_time_and_in_lock_step_give_the_same_frames(serve):
    peer, other = (live := serve()).peer(), live.peer()
    peer.start(seed=4)
    other.start(seed=4)
    for k, action in enumerate([Action.of("turn_left"), Action(), Action.of("attack", "forward")], start=1):
        stepped = peer.ask(protocol.Step(k + 1, action.buttons))
        played = other.ask(act(2 * k, *action.buttons, wanted=k))
        other.send(act(2 * k + 1))
        assert stepped.payload == played.payload
