"""Any order of connecting, asking, repeating, dropping, waiting: what must hold for the server and its worlds."""

from dataclasses import dataclass, field

import pytest
import zmq
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from helios_world.bridge import protocol
from helios_world.bridge.server import LEASE, WorldServer
from helios_world.engine import WorldEngine
from helios_world.testing import FAKE_CARD, FakeWorldModel

NAMES = st.sampled_from(["ada", "bob", "eve"])
HELD = st.frozensets(st.sampled_from(FAKE_CARD.buttons), max_size=3)


class Counting(FakeWorldModel):
    """Counts the chunks of each world, by its seed."""

    def __init__(self):
        super().__init__()
        self.made: dict[int, int] = {}

    def step(self, states, actions, contexts=None):
        for state in states:
            self.made[state.seed] = self.made.get(state.seed, 0) + 1
        return super().step(states, actions, contexts)


@dataclass
class Client:
    """What a client knows, and what it has a right to."""

    socket: zmq.Socket | None = None
    ticket: str = ""
    request: int = 0
    seq: int = 0
    seed: int = 0  # of its world; 0 while there is none
    chunk: int = 0  # index of the next chunk
    heard: float = 0.0
    last: list[bytes] = field(default_factory=list)  # newest request sent
    reply: object = None


class Bridge(RuleBasedStateMachine):
    """Three clients of a server for three, all in one thread; each begins with a world."""

    @initialize()
    def start(self):
        self.now, self.seeds = 1000.0, 0
        self.model = Counting()
        self.server = WorldServer(WorldEngine(self.model), max_sessions=3, clock=lambda: self.now)
        self.context = zmq.Context()
        self.clients = {name: Client() for name in ("ada", "bob", "eve")}
        for name in self.clients:
            self.connect(name)
            self.reset(name)

    def teardown(self):
        if hasattr(self, "server"):
            for client in self.clients.values():
                if client.socket is not None:
                    client.socket.close(0)
            self.context.term()
            self.server.close()

    def exchange(self, client, message):
        """Sends, lets the server work, and gives the answer; probes of the server are not one."""
        client.socket.send_multipart(protocol.encode(message) if not isinstance(message, list) else message)
        client.heard = self.now
        for _ in range(200):
            self.server.turn(0.01)
            while client.socket.poll(0):
                answer = protocol.decode(client.socket.recv_multipart())
                if answer != protocol.Pong(0.0):
                    return answer
        raise AssertionError(f"no answer to {message}")

    def ask(self, client, make, **values):
        client.request += 1
        message = make(client.request, **values)
        client.last = protocol.encode(message)
        client.reply = self.exchange(client, message)
        return client.reply

    @rule(name=NAMES)
    def connect(self, name):
        client = self.clients[name]
        lost = self.now - client.heard > 0.9 * LEASE  # the server may have given the session up
        if client.socket is not None:
            client.socket.close(0)
        client.socket = self.context.socket(zmq.DEALER)
        client.socket.linger = 0
        client.socket.connect(self.server.address)
        welcome = self.exchange(client, protocol.Hello(protocol.VERSION, name, client.ticket))
        assert isinstance(welcome, protocol.Welcome), welcome
        if welcome.session == client.ticket:
            assert welcome.chunk == client.chunk and welcome.answered == client.request
        else:
            assert not client.ticket or lost, "a ticket is good while its lease lasts"
            self.clients[name] = Client(client.socket, welcome.session, welcome.answered, heard=self.now)
            assert welcome.chunk == 0

    def there(self, name):
        client = self.clients[name]
        known = self.server._seats.get(client.ticket)
        return client if client.socket is not None and known is not None and known.peer is not None else None

    @rule(name=NAMES)
    def reset(self, name):
        client = self.there(name)
        if client is None:
            return
        self.seeds += 1
        answer = self.ask(client, protocol.Reset, scene=None, seed=self.seeds)
        assert (answer.request, answer.index) == (client.request, 0)
        client.seed, client.chunk = self.seeds, 1

    @rule(name=NAMES, held=HELD)
    def step(self, name, held):
        client = self.there(name)
        if client is None:
            return
        answer = self.ask(client, protocol.Step, buttons=held)
        if not client.seed:
            assert answer.code == "no_world"
            return
        assert (answer.request, answer.index) == (client.request, client.chunk)
        client.chunk += 1

    @rule(name=NAMES)
    def repeat(self, name):
        client = self.there(name)
        if client is None or not client.last or self.server._seats[client.ticket].answered != client.request:
            return
        assert self.exchange(client, client.last) == client.reply, "asked again, answered again, not done again"

    @rule(name=NAMES, held=HELD, ahead=st.integers(-2, 3))
    def act(self, name, held, ahead):
        client = self.there(name)
        if client is None or not client.seed:
            return
        seat = self.server._seats[client.ticket]
        newest = bool(seat.newest)
        client.seq = max(client.seq, seat.seq) + 1
        wanted = max(1, client.chunk + ahead)
        message = protocol.Act(client.seq, 7.5, held, wanted)
        if wanted < client.chunk and not newest:
            client.socket.send_multipart(protocol.encode(message))
            self.server.turn(0.01)
            return
        answer = self.exchange(client, message)
        assert (answer.request, answer.sent_at) == (0, 7.5 if wanted >= client.chunk else answer.sent_at)
        if wanted >= client.chunk:
            assert (answer.index, answer.seq) == (client.chunk, client.seq)
            client.chunk += 1

    @rule(name=NAMES, age=st.integers(0, 3))
    def act_of_yesterday(self, name, age):
        """Comes late, or twice: asks for a chunk that nobody waits for any more, so none is made."""
        client = self.there(name)
        seat = client and self.server._seats[client.ticket]
        if seat is not None and seat.seq:
            stale = protocol.Act(max(0, seat.seq - age), 7.5, frozenset(), client.chunk)
            client.socket.send_multipart(protocol.encode(stale))
            self.server.turn(0.01)

    @rule(name=NAMES)
    def drop(self, name):
        client = self.clients[name]
        if client.socket is not None:
            client.socket.close(0)
            client.socket = None
            self.server.turn(0.01)

    @rule(name=NAMES, junk=st.binary(max_size=200))
    def babble(self, name, junk):
        client = self.there(name)
        if client is not None:
            assert self.exchange(client, [junk]).code == "bad_message"

    @rule(seconds=st.sampled_from([1.0, 10.0, 40.0]))
    def wait(self, seconds):
        self.now += seconds
        self.server.turn(0.0)

    @precondition(lambda self: hasattr(self, "server"))
    @invariant()
    def nothing_is_made_twice_and_nothing_piles_up(self):
        for client in self.clients.values():
            if client.seed:
                assert self.model.made.get(client.seed, 0) == client.chunk - 1
        assert len(self.server._seats) <= 3
        assert all(len(queue) <= 64 for queue in self.server._backlog.values())


TestBridge = pytest.mark.filterwarnings("ignore")(Bridge.TestCase)
TestBridge.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
