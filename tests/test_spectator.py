"""Others at a session: spectators, who hear and say nothing, and the one who is given the controls."""

import time
from functools import partial

import numpy as np
import pygame
import pytest
import zmq

from helios_world.action import Action
from helios_world.bridge import protocol
from helios_world.bridge.client import RemoteSession
from helios_world.bridge.keys import ClientKeys, KeyPair, Lock
from helios_world.bridge.server import LEASE, WorldServer
from helios_world.bridge.spectator import HIGH_WATER, Spectator
from helios_world.bridge.stream import WorldStream
from helios_world.demos.cli import main
from helios_world.demos.link import Link
from helios_world.engine import WorldEngine
from helios_world.errors import ProtocolError, ServerError, UserError
from helios_world.testing import FAKE_CARD, FakeWorldModel

FRAMES = FAKE_CARD.frames_per_chunk


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def server():
    return WorldServer(WorldEngine(FakeWorldModel()), broadcast=0)


@pytest.fixture
def player(served, server):
    with served(server) as address:
        player = RemoteSession(address)
        yield player
        player.close()


@pytest.fixture
def watch(player, server):
    watching = []

    def start(name=None):
        watching.append(Spectator(f"tcp://127.0.0.1:{server._broadcast.port}", name or player.invite("watch")))
        return watching[-1]

    yield start
    for spectator in watching:
        spectator.close()


def seen(spectator, chunk, seconds=5.0):
    """Pixels of the last frame of `chunk`, once it is shown."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        shown = spectator.tick()
        if shown is not None and (shown.chunk, shown.index) == (chunk, FRAMES - 1):
            return shown.pixels
        spectator.wait(0.01)
    raise AssertionError(f"chunk {chunk} never came: {spectator.status}, {spectator.message!r}")


def test_a_spectator_sees_what_the_player_sees(player, watch):
    player.reset(seed=3)
    spectator = watch()
    for number in (1, 2):
        chunk = player.step(Action(frozenset({"forward"})))
        if number == 1:
            time.sleep(0.2)  # it has subscribed by now
            chunk = player.step()
        assert (seen(spectator, chunk.index) == chunk.frames[-1]).all()
    assert spectator.card == player.card and spectator.status == "playing"
    assert spectator.stats.shown_fps > 0


def test_who_comes_late_is_shown_the_newest_chunk_at_once(player, watch):
    player.reset()
    early = watch()
    chunk = player.step()
    seen(early, chunk.index)
    late = watch()
    assert (seen(late, chunk.index) == chunk.frames[-1]).all()
    assert early.tick().chunk == chunk.index, "who was there already sees nothing twice"


def test_another_world_is_shown_from_its_start(player, watch):
    player.reset(seed=1)
    spectator = watch()
    seen(spectator, player.step().index)
    first = player.reset(seed=2)
    assert (seen(spectator, 0) == first.frames[-1]).all()


def test_a_spectator_has_no_hand(player, watch):
    before = player.reset(seed=5)
    spectator = watch()
    spectator.hold({"forward"})
    spectator.start(None, 9)
    chunk = player.step()
    local, first = WorldEngine(FakeWorldModel()).open(seed=5)
    assert (before.frames == first.frames).all() and (chunk.frames == local.step().frames).all()


def test_nobody_takes_the_invitation_back(player, watch):
    player.reset()
    name = player.invite("watch")
    assert player.invite("watch") == name
    spectator = watch(name)
    seen(spectator, player.step().index)
    assert player.invite("nobody") == ""
    hidden = player.step().index
    time.sleep(0.2)
    assert spectator.tick().chunk < hidden
    assert player.invite("watch") != name


def test_a_spectator_who_reads_nothing_delays_nobody(player, watch):
    player.reset()
    watch()
    began = time.monotonic()
    for _ in range(20 * HIGH_WATER):
        player.step()
    assert time.monotonic() - began < 5


def test_whatever_is_said_on_the_port_for_spectators_stops_nothing(player, server):
    player.reset()
    player.invite("watch")
    socket = zmq.Context.instance().socket(zmq.XSUB)
    socket.connect(f"tcp://127.0.0.1:{server._broadcast.port}")
    for words in (b"", b"\x01", b"\x01" + b"x" * 60, b"\x00nobody", b"\x02\xff" * 30, b"\x01" * 4000):
        socket.send(words)
        player.step()
    socket.close(0)
    assert player.step().index == 7


def test_without_a_port_nobody_can_watch(address):
    player = RemoteSession(address)
    player.reset()
    with pytest.raises(UserError, match="--broadcast"):
        player.invite("watch")
    with pytest.raises(UserError, match="verb"):
        player.invite("everybody")
    player.close()
    with pytest.raises(UserError, match="names no session"):
        Spectator(address, "maze")
    with pytest.raises(UserError, match="tcp"):
        WorldServer(WorldEngine(FakeWorldModel()), "ipc:///tmp/helios-world-test-spectators", broadcast=0)


@pytest.mark.parametrize("damage", [b"", b"x" * 35, b"x" * 32 + b"\0\0\0\x09tiny", b"x" * 32 + b"\xff" * 4 + b"?" * 99])
def test_a_damaged_part_is_no_message(damage):
    whole = protocol.encode_single("0" * 32, protocol.Pong(2.5))
    assert protocol.decode_single(whole) == protocol.Pong(2.5)
    with pytest.raises(ProtocolError):
        protocol.decode_single(damage)


# The controls


def test_a_world_is_handed_over_once_and_goes_on(player):
    player.reset(seed=4)
    local, _ = WorldEngine(FakeWorldModel()).open(seed=4)
    assert (player.step().frames == local.step().frames).all()
    ticket = player.invite("play")
    assert (player.step().frames == local.step().frames).all(), "until it is taken, the world is its player's"
    heir = RemoteSession(player._address, ticket=ticket)
    assert (heir.step().frames == local.step().frames).all()
    with pytest.raises(ServerError) as refusal:
        player.step()
    assert refusal.value.code == "handed_over"
    assert (heir.step().frames == local.step().frames).all()
    thief = RemoteSession(player._address, ticket=heir.invite("nobody"))
    assert thief._ticket != heir._ticket
    thief.close()
    heir.close()


def test_a_ticket_given_away_ends_with_the_lease_or_when_taken_back(served):
    clock = Clock()
    server = WorldServer(WorldEngine(FakeWorldModel()), clock=clock)
    with served(server) as address:
        player = RemoteSession(address)
        player.reset()
        withdrawn = player.invite("play")
        player.invite("nobody")
        stale = player.invite("play")
        clock.now += LEASE + 1
        for ticket in (withdrawn, stale, "ü"):
            with pytest.raises(ServerError, match="no longer has this world"):
                RemoteSession(address, ticket=ticket)
        player.step()
        player.close()


def test_a_ticket_given_away_opens_the_world_to_another_key_and_no_longer_to_the_old(served):
    mine, ada, bob = (KeyPair(*(key.decode() for key in zmq.curve_keypair())) for _ in range(3))
    lock = Lock(mine, frozenset({ada.public, bob.public}))
    with served(WorldServer(WorldEngine(FakeWorldModel()), lock=lock, broadcast=0)) as address:
        hers, his = (ClientKeys(own, mine.public) for own in (ada, bob))
        player = RemoteSession(address, keys=hers)
        first = player.reset()
        old = player._ticket
        heir = RemoteSession(address, ticket=player.invite("play"), keys=his)
        assert heir.step().index == first.index + 1
        for ticket in (old, heir._ticket):
            with pytest.raises(ServerError, match="no longer has this world"):
                RemoteSession(address, ticket=ticket, keys=hers)
        heir.close()
        player.close()


def test_a_stream_takes_a_world_over_and_its_old_player_is_told(served, server):
    def until(*streams, holds):
        deadline = time.monotonic() + 5
        while not holds():
            assert time.monotonic() < deadline
            for stream in streams:
                stream.tick()
                stream.wait(0.005)

    with served(server) as address:
        player = WorldStream(address)
        player.start(seed=2)
        until(player, holds=lambda: player.status == "playing")
        player.invite("watch")
        until(player, holds=lambda: player.invitation is not None)
        assert player.invitation.address == f"tcp://127.0.0.1:{server._broadcast.port}"
        player.invite("play")
        until(player, holds=lambda: player.invitation.verb == "play")
        heir = WorldStream(player.invitation.address, ticket=player.invitation.name)
        with pytest.raises(ServerError, match="handed over"):
            until(heir, player, holds=lambda: False)
        until(heir, holds=lambda: heir.status == "playing" and heir.tick().chunk > 0)
        player.close()
        heir.close()
        lost = WorldStream(address, ticket="0" * 32)
        with pytest.raises(ServerError, match="no world for this ticket"):
            until(lost, holds=lambda: False)
        lost.close()


@pytest.fixture
def open_window(window_on):
    opened = []

    def start(connect, address, **options):
        opened.append(window_on(Link(connect, scene=None, seed=0, address=address, **options)))
        return opened[-1]

    yield start
    for window in opened:
        window.link.close()


def run(window, until, *keys):
    deadline = time.monotonic() + 5
    for code in keys:
        window.handle(pygame.event.Event(pygame.KEYDOWN, key=code, mod=0))
    while not until():
        assert time.monotonic() < deadline
        window.update(time.monotonic())
        window.draw(time.monotonic())
        window.link.wait(0.005)


def test_keys_of_the_window_give_the_commands_that_others_join_with(served, server, open_window, capsys):
    with served(server) as address:
        window = open_window(WorldStream, address)
        run(window, lambda: window.shown is not None)
        for code, option in ((pygame.K_F6, "--watch"), (pygame.K_F7, "--ticket")):
            before = window.link.stream.invitation
            run(window, lambda before=before: window.link.stream.invitation is not before, code)
            run(window, lambda: window._invitation is window.link.stream.invitation)
            told = window.link.stream.invitation
            wanted = f"helios-world play --connect {told.address} {option} {told.name}\n"
            assert capsys.readouterr().out == wanted


def test_a_window_shows_what_somebody_else_plays_and_changes_nothing(player, server, open_window):
    first = player.reset(seed=8)
    name = player.invite("watch")
    address = f"tcp://127.0.0.1:{server._broadcast.port}"
    window = open_window(partial(Spectator, name=name), address, watches=True)
    run(window, lambda: window.link.card is not None)
    chunk = player.step()
    run(window, lambda: window.shown is not None and window.shown.chunk == chunk.index)
    run(window, lambda: window.shown.index == FRAMES - 1)
    assert (window.shown.pixels == chunk.frames[-1]).all() and first.index == 0
    run(window, lambda: True, pygame.K_r, pygame.K_p, pygame.K_F5, pygame.K_F9, pygame.K_F6, pygame.K_w)
    assert "you only watch" in window._words(time.monotonic())
    assert player.step().index == chunk.index + 1


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--watch", "0" * 32], "--connect"),
        (["--connect", "tcp://127.0.0.1:1", "--watch", "0" * 32, "--ticket", "x"], "give one of them"),
        (["--connect", "tcp://127.0.0.1:1", "--ticket", "x", "--seed", "3"], "--seed is of a world that begins"),
        (["--connect", "tcp://127.0.0.1:1", "--watch", "0" * 32, "--controller", "random"], "--controller"),
        (["--connect", "tcp://127.0.0.1:1", "--watch", "0" * 32, "--headless"], "need a window"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(words, complaint, capsys):
    assert main(["play", *words]) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_frames_of_a_spectator_are_whole(player, watch):
    """Many chunks in a row: every one shown is one that was made, bit by bit."""
    player.reset()
    spectator, made, shown = watch(), {}, {}
    for _ in range(30):
        chunk = player.step()
        made[chunk.index] = chunk.frames
        time.sleep(0.02)
        now = spectator.tick()
        if now is not None:
            shown[now.chunk, now.index] = now.pixels
    assert len({chunk for chunk, _ in shown}) > 3
    assert all(np.array_equal(made[chunk][index], pixels) for (chunk, index), pixels in shown.items() if chunk in made)
