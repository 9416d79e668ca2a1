"""What a game comes to, from the chunks to the screen: it adds up, stands still at its end, and begins anew."""

import time
from dataclasses import replace

import numpy as np
import pygame
import pytest

from helios_world.action import Action
from helios_world.bridge.client import RemoteSession
from helios_world.bridge.player import ChunkPlayer
from helios_world.bridge.score import Score
from helios_world.bridge.server import WorldServer
from helios_world.bridge.spectator import Spectator
from helios_world.bridge.stream import WorldStream
from helios_world.controllers import ScriptController, parse_script
from helios_world.demos import bench
from helios_world.demos.hud import Overlay, draw_overlay
from helios_world.demos.link import Link
from helios_world.engine import WorldEngine
from helios_world.testing import FAKE_CARD, GAME_CARD, FakeWorldModel
from helios_world.world import Outcome
from tests.stand_in import FRAME, StandIn


def game_server(**options):
    return WorldServer(WorldEngine(FakeWorldModel(GAME_CARD, seconds=0.01)), **options)


def test_rewards_add_up_and_what_is_over_stays_over():
    score = Score().after(Outcome(2.0)).after(None).after(Outcome(-0.5, True)).after(Outcome(1.0))
    assert score == Score(2.5, True)


@pytest.mark.parametrize(
    ("total", "words"),
    [(0.0, "0"), (7.0, "7"), (-1.5, "-1.5"), (0.1 + 0.2, "0.3"), (-0.001, "0"), (1234567.25, "1234567.25")],
)
def test_a_score_reads_well(total, words):
    assert str(Score(total)) == words


# Pacing


def put(player, index, now, outcome=None):
    return player.put(index, np.full((4, 1, 1, 3), index, np.uint8), now, outcome=outcome)


def test_each_picture_has_the_score_of_its_chunk():
    player = ChunkPlayer(10.0, 4)
    put(player, 0, 0.0)
    put(player, 1, 0.1, Outcome(1.0))
    assert player.frame(0.35).score == Score() and player.score == Score(1.0)
    assert player.frame(0.45).score == Score(1.0)
    assert not put(player, 1, 0.5, Outcome(1.0)), "what came twice counts once"
    assert player.score == Score(1.0)


def test_after_the_end_the_last_picture_stays_and_nothing_is_asked_for():
    player = ChunkPlayer(10.0, 4)
    put(player, 0, 0.0)
    put(player, 1, 0.3, Outcome(0.0, True))
    assert player.frame(0.45).index == 0 and player.wants_chunk(0.5) == 0
    assert player.next_event(0.45) == pytest.approx(0.5), "the last chunk is played to its end"
    assert (player.frame(9.0).chunk, player.frame(9.0).index) == (1, 3)
    assert player.wants_chunk(9.0) == 0 and player.next_event(9.0) == float("inf")
    player.reset(7, Score(3.0))
    assert player.wants_chunk(9.0) == 7 and player.score == Score(3.0)


# Streams


@pytest.fixture
def stream(served):
    with served(game_server()) as address:
        stream = WorldStream(address)
        yield stream
        stream.close()


def play(stream, until, seconds=20.0):
    """Every picture's chunk and score, until `until()` holds."""
    seen, deadline = [], time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"waited {seconds} s: {stream.status}, {stream.message!r}"
        shown = stream.tick()
        if shown is not None and shown.is_new:
            seen.append((shown.chunk, shown.score))
        stream.wait(0.01)
    return seen


def scored(stream, total, over=False):
    return lambda: stream._last is not None and stream._last.score == Score(total, over)


def at_chunk(stream, chunk):
    return lambda: stream._last is not None and stream._last.chunk >= chunk


def test_a_stream_gets_the_reward_of_every_chunk_it_shows(stream):
    stream.steer = lambda chunk: {"attack"} if chunk % 3 else set()
    stream.start()
    seen = play(stream, at_chunk(stream, 7))
    totals = {chunk: score.total for chunk, score in seen}
    assert totals == {chunk: chunk - chunk // 3 for chunk in range(8)}


def test_a_game_that_is_over_stands_still_until_another_one_begins(stream):
    stream.steer = lambda chunk: {"attack", "back"} if chunk == 2 else {"attack"}
    stream.start(None, 1)
    seen = play(stream, lambda: stream._last is not None and stream._last.score.over and stream._last.index == 3)
    assert seen[-1] == (2, Score(2.0, True))
    stream.look(900.0, 0.0)
    began, ticks, late = time.monotonic(), 0, stream.stats.late_chunks
    while time.monotonic() - began < 0.7:
        assert not stream.tick().is_new and stream.status == "playing"
        stream.wait(0.05)
        ticks += 1
    assert ticks < 40, "nor does it spin"
    assert stream.stats.late_chunks == late and stream._mouse == (0.0, 0.0)
    stream.reset(None, 2)
    seen = play(stream, lambda: stream._last.score == Score(1.0))
    assert seen[0] == (0, Score())


def test_a_save_that_is_loaded_brings_its_score_back_and_a_strangers_none(stream):
    stream.steer = lambda chunk: {"attack"}
    stream.start()
    play(stream, scored(stream, 2.0))
    stream.save()
    play(stream, lambda: stream.saves == 1)
    kept, at = stream._saved_score.total, stream._last.score.total
    stream.steer = lambda chunk: {"back"}
    play(stream, lambda: stream._last.score.over)
    assert 2.0 <= kept <= at + 1
    stream.steer = lambda chunk: {"attack"}
    stream.load(stream.saved)
    play(stream, scored(stream, kept + 1))
    stream.load(WorldEngine(FakeWorldModel(GAME_CARD)).open(seed=5)[0].snapshot())
    play(stream, scored(stream, 1.0))


def test_a_world_that_goes_on_after_a_loss_keeps_its_score_and_its_end(served):
    with served(game_server()) as address:
        stream = WorldStream(address)
        stream.steer = lambda chunk: {"attack"} if chunk <= 3 else set()
        stream.start()
        play(stream, at_chunk(stream, 5))
    play(stream, lambda: stream.status == "lost")
    with served(game_server(address=address)):
        at = stream._last.chunk
        play(stream, at_chunk(stream, at + 2))
        assert stream._last.score == Score(3.0)
        stream.steer = lambda chunk: {"back"}
        play(stream, scored(stream, 3.0, over=True))
        play(stream, lambda: stream._origin.score.over)
    play(stream, lambda: stream.status == "lost")
    with served(game_server(address=address)):
        play(stream, lambda: stream.status == "playing")
        at = stream._last.chunk
        deadline = time.monotonic() + 0.6
        play(stream, lambda: time.monotonic() > deadline)
        assert (stream._last.chunk, stream._last.score) == (at, Score(3.0, True))
    stream.close()


def test_a_spectator_counts_what_it_sees(served):
    server = game_server(broadcast=0)
    with served(server) as address:
        player = RemoteSession(address)
        player.reset()
        player.step(Action.of("attack"))
        spectator = Spectator(f"tcp://127.0.0.1:{server._broadcast.port}", player.invite("watch"))
        play(spectator, lambda: spectator.card is not None)
        player.step()
        play(spectator, at_chunk(spectator, 2))
        for actions in (["attack"], ["attack"], ["back"]):
            player.step(Action.of(*actions))
        play(spectator, scored(spectator, 2.0, over=True))
        player.reset()
        play(spectator, scored(spectator, 0.0))
        spectator.close(), player.close()


# The window


@pytest.fixture
def open_window(clock, window_on):
    def open_one(card=GAME_CARD, script="9 attack"):
        link = Link(lambda _: StandIn(clock, card), scene=None, seed=0, address="tcp://127.0.0.1:1")
        steer = ScriptController(parse_script(script, card.buttons))
        return window_on(link, clock=clock, steer=lambda card: steer)

    return open_one


def turn(window, clock, times=1):
    for _ in range(times):
        clock.now += FRAME
        window.update(clock.now)
        window.draw(clock.now)
    return window._overlay(clock.now)


def corner(window):
    """Of the screen, where the score is."""
    screen = pygame.surfarray.array3d(pygame.display.get_surface())
    return screen[-100:, :45].copy()


def test_the_score_is_in_the_corner_without_being_asked_for(open_window, clock):
    window = open_window()
    assert turn(window, clock).score == "0"
    before = corner(window)
    assert turn(window, clock, 8).score == "2"
    assert (corner(window) != before).any()
    window.close()
    plain = open_window(FAKE_CARD)
    assert turn(plain, clock, 8).score == ""


def test_the_end_is_said_until_r_starts_the_next_game(open_window, clock):
    window = open_window(script="2 attack\n1 back\n9 attack")
    assert turn(window, clock, 12).ending is None and not window.is_over
    overlay = turn(window, clock, 40)
    assert overlay.ending == ("The game is over: score 2", "R starts the next one") and window.is_over
    assert (window.shown.chunk, window.shown.index) == (3, 3), "it stands still"
    window.handle(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_p, mod=0))
    assert turn(window, clock).word == "", "one word is enough"
    window.handle(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_p, mod=0))
    window.handle(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_F1, mod=0))
    assert turn(window, clock).ending is None, "the help is read first"
    window.handle(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_F1, mod=0))
    window.handle(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_r, mod=0))
    overlay = turn(window, clock)
    assert (overlay.ending, overlay.score, window.link.seed, window.is_over) == (None, "0", 1, False)


def test_who_watches_is_not_told_to_press_r(open_window, clock):
    window = open_window(script="1 back")
    window.link.watches = True
    assert turn(window, clock, 12).ending[1] == "whoever plays starts the next one"


@pytest.mark.parametrize("size", [(160, 128), (640, 512), (1350, 1080)])
def test_score_and_end_fit_every_size(size):
    pygame.font.init()
    surface = pygame.Surface(size)
    draw_overlay(surface, Overlay(score="1234567.25", ending=("The game is over: score 1234567.25", "R starts")))
    drawn = pygame.surfarray.array3d(surface).max(2)
    assert drawn[-size[0] // 2 :, : size[1] // 4].max() > 150 and drawn[:, size[1] // 2].max() > 150
    assert drawn[-1, : size[1] // 4].max() < 50, "with room to the edge"


def test_the_bench_begins_the_next_game(served, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    card = replace(GAME_CARD, bindings={"s": "back"})
    with served(WorldServer(WorldEngine(FakeWorldModel(card)))) as address:
        link = Link(WorldStream, scene=None, seed=0, address=address)
        figures = bench.play_and_measure(link, 5.0, 0)
        assert link.seed >= 1 and link.seed < 20, "once for each end"
        assert figures["fps"] > 5 and figures["key_to_pixels_ms_p95"] < 1000
        link.close()
