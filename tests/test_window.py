"""The window without a server: a stand-in stream, a clock that tests move, and events that tests post."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pygame
import pytest

from helios_world.action import Action
from helios_world.bridge.process import ServerProcess
from helios_world.bridge.stream import WorldStream
from helios_world.controllers import KEY_NAMES, RandomController, Recording, Replay, ScriptController, parse_script
from helios_world.demos.hud import Overlay, draw_overlay
from helios_world.demos.link import Link
from helios_world.demos.window import NoDisplay, Window, scale_picture
from helios_world.demos.window_keys import RESERVED, WINDOW_KEYS
from helios_world.engine import WorldEngine
from helios_world.errors import UserError
from helios_world.testing import FAKE_CARD, FakeWorldModel
from tests.stand_in import FRAME, Server, StandIn


@pytest.fixture
def open_window(clock, window_on):
    def open_one(server=None, address="tcp://127.0.0.1:1", card=None, **options):
        link = Link(
            lambda _: StandIn(clock), scene=None, seed=0, server=server, address=address if server is None else None,
            card=card,
        )  # fmt: skip
        return window_on(link, clock=clock, **options)

    return open_one


def turn(window, clock, seconds=0.0):
    """One turn of the loop, `seconds` later."""
    clock.now += seconds
    for event in pygame.event.get():
        window.handle(event)
    window.update(clock.now)
    return window.draw(clock.now)


def key(code, mod=0):
    return pygame.event.Event(pygame.KEYDOWN, key=code, mod=mod), pygame.event.Event(pygame.KEYUP, key=code, mod=mod)


def test_a_tap_shorter_than_a_chunk_acts(open_window, clock):
    window = open_window()
    turn(window, clock)
    for event in key(pygame.K_LEFT):
        pygame.event.post(event)
    turn(window, clock, 0.01)
    stream = window.link.stream
    assert stream.holds == [{"turn_left"}, frozenset()], "down and up must both be sent, in this order"
    for _ in range(12):
        turn(window, clock, FRAME)
    assert stream.actions[0] == Action.of("turn_left")
    assert set(stream.actions[1:]) == {Action()}


def test_a_press_is_timed_until_its_chunk_is_on_screen(open_window, clock):
    window = open_window()
    turn(window, clock)
    turn(window, clock, 1.5 * FRAME)
    window.post_key("left", True, clock.now)
    window.post_key("left", False, clock.now)
    for _ in range(6):
        turn(window, clock, 0.5 * FRAME)
    assert list(window.key_to_pixels) == pytest.approx([2.5 * FRAME]), "the chunk after begins four frames in"


def test_losing_the_keyboard_lets_go_of_every_key(open_window, clock):
    window = open_window()
    turn(window, clock)
    window.handle(key(pygame.K_w)[0])
    window.handle(key(pygame.K_LEFT)[0])
    assert window.held == {"forward", "turn_left"}
    window.handle(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    assert window.link.stream.holds[-1] == frozenset() == window.held


def test_a_click_catches_the_mouse_and_escape_lets_it_go(open_window, clock):
    window = open_window()
    turn(window, clock)
    moves = pygame.event.Event(pygame.MOUSEMOTION, rel=(-12, 3), pos=(5, 5), buttons=(0, 0, 0))
    click = pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(5, 5))
    for event in (moves, click, moves, moves):
        window.handle(event)
    assert window.link.stream.looks == [(-12, 3), (-12, 3)], "only what moves after the click"
    for event in (key(pygame.K_ESCAPE)[0], moves):
        window.handle(event)
    assert not window.done and len(window.link.stream.looks) == 2
    for event in (click, pygame.event.Event(pygame.WINDOWFOCUSLOST), moves):
        window.handle(event)
    assert len(window.link.stream.looks) == 2, "who looks elsewhere has the mouse there"
    window.handle(key(pygame.K_ESCAPE)[0])
    assert window.done
    assert "Click" in dict(window._sheet())


@pytest.mark.parametrize("steered", [True, False])
def test_the_mouse_stays_free_where_it_does_nothing(open_window, clock, steered):
    window = open_window(steer=lambda card: RandomController(card.buttons, seed=0) if steered else None)
    turn(window, clock)
    if not steered:
        window._known = replace(FAKE_CARD, mouse=None)
    window.handle(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(5, 5)))
    window.handle(pygame.event.Event(pygame.MOUSEMOTION, rel=(-12, 3), pos=(5, 5), buttons=(0, 0, 0)))
    assert window.link.stream.looks == [] and "Click" not in dict(window._sheet())


def test_it_draws_only_when_something_changed(open_window, clock):
    window = open_window()
    turn(window, clock)
    assert not turn(window, clock)
    assert not turn(window, clock, 0.001)
    assert turn(window, clock, FRAME), "the next frame is due"
    assert np.array_equal(window.shown.pixels, window.link.stream.tick().pixels)
    pygame.event.post(key(pygame.K_F3)[0])
    assert turn(window, clock), "the figures appear"


def test_the_picture_on_screen_is_the_frame(open_window, clock):
    window = open_window()
    turn(window, clock)
    turn(window, clock, FRAME)
    screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    height, width = FAKE_CARD.frame_shape[:2]
    assert screen.shape == (height * 4, width * 4, 3) or screen.shape == (512, 640, 3)
    factor = screen.shape[0] // height
    small = screen.reshape(height, factor, width, factor, 3).mean((1, 3))
    assert np.abs(small - window.shown.pixels).mean() < 4


def test_it_keeps_the_shape_of_the_world_in_any_window(open_window, clock):
    window = open_window()
    turn(window, clock)
    assert window._view((1000, 512)).size == (640, 512)
    assert window._view((1000, 512)).centerx == 500
    assert window._view((320, 900)).size == (320, 256)
    assert window._view((1, 1)).size == (1, 1)


def test_reset_takes_the_next_seed_and_shift_keeps_it(open_window, clock):
    window = open_window()
    turn(window, clock)
    window.handle(key(pygame.K_r)[0])
    window.handle(key(pygame.K_r, pygame.KMOD_LSHIFT)[0])
    assert window.link.stream.starts == [(None, 0), (None, 1), (None, 1)]


def test_pause_stops_the_world_and_goes_on(open_window, clock):
    window = open_window()
    turn(window, clock)
    window.handle(key(pygame.K_p)[0])
    assert window.link.status == "paused"
    assert turn(window, clock)
    window.handle(key(pygame.K_p)[0])
    assert window.link.status == "playing"


def test_quick_save_and_load_go_through_one_file(open_window, clock, tmp_path):
    window = open_window()
    turn(window, clock)
    window.handle(key(pygame.K_F9)[0])
    assert window._toast == "nothing saved yet: F5 saves"
    window.handle(key(pygame.K_F5)[0])
    turn(window, clock)
    path = tmp_path / "saves" / "fake.world"
    assert window._toast == f"saved: {path}"
    window.handle(key(pygame.K_F9)[0])
    assert window.link.stream.loads == [path.read_bytes()]


def test_what_was_loaded_is_what_is_started_again(open_window, clock, tmp_path):
    window = open_window()
    turn(window, clock)
    saved = WorldEngine(FakeWorldModel()).open("hall", seed=7)[0].snapshot()
    path = tmp_path / "saves" / "fake.world"
    path.parent.mkdir()
    for damaged in (b"", saved[:100]):
        path.write_bytes(damaged)
        window.handle(key(pygame.K_F9)[0])
        assert "damaged" in window._toast and window.link.seed == 0
    path.write_bytes(saved)
    window.handle(key(pygame.K_F9)[0])
    assert (window.link.scene, window.link.seed) == ("hall", 7)
    assert pygame.display.get_caption()[0] == "Helios World: fake, hall"
    window.handle(key(pygame.K_r, pygame.KMOD_LSHIFT)[0])
    assert window.link.stream.starts[-1] == ("hall", 7)


def test_a_save_that_cannot_be_written_is_said(open_window, clock, tmp_path):
    window = open_window()
    turn(window, clock)
    (tmp_path / "saves").write_text("in the way")
    window.handle(key(pygame.K_F5)[0])
    turn(window, clock)
    assert window._toast.startswith("cannot save to ")


def test_screenshots_are_numbered_and_show_the_world_alone(open_window, clock, tmp_path):
    window = open_window()
    turn(window, clock)
    window.handle(key(pygame.K_F3)[0])
    turn(window, clock, FRAME)
    for _ in range(2):
        window.handle(key(pygame.K_F12)[0])
    paths = sorted((tmp_path / "screenshots").iterdir())
    assert [path.name for path in paths] == ["fake-maze-0001.png", "fake-maze-0002.png"]
    assert str(paths[1]) in window._toast
    picture = pygame.image.load(paths[0])
    wanted = scale_picture(window.shown.pixels, picture.get_size())
    assert np.array_equal(pygame.surfarray.array3d(picture), pygame.surfarray.array3d(wanted))


def test_the_window_opens_before_there_is_a_generator(open_window, clock):
    server = Server()
    window = open_window(server=server, card=FAKE_CARD)
    assert window.link.status == "waking"
    assert not turn(window, clock, 0.01)
    assert turn(window, clock, 1.0), "the bar moves while it loads"
    assert pygame.surfarray.array3d(pygame.display.get_surface()).max() > 100
    window.handle(key(pygame.K_r)[0])
    assert window._toast == "not now: there is no generator"
    server.address = "tcp://127.0.0.1:2"
    turn(window, clock, 0.01)
    assert window.link.status == "playing"
    assert window.shown is not None


def test_a_dead_generator_is_said_and_restarted(open_window, clock):
    server = Server()
    server.address = "tcp://127.0.0.1:2"
    window = open_window(server=server)
    turn(window, clock)
    turn(window, clock, FRAME)
    stream = window.link.stream
    server.alive, stream.status = False, "lost"
    assert turn(window, clock, FRAME)
    assert window.link.trouble[0] == "generator lost: restarting"
    assert server.restarts == 1
    server.alive = False
    turn(window, clock, 0.5)
    assert server.restarts == 1, "one that dies at once again is not restarted in a spin"
    turn(window, clock, 5.0)
    assert server.restarts == 2
    stream.status = "playing"
    turn(window, clock, FRAME)
    assert window.link.trouble is None
    assert not window.done


def test_a_lost_server_of_somebody_else_is_waited_for(open_window, clock):
    window = open_window(address="tcp://127.0.0.1:7")
    turn(window, clock)
    window.link.stream.status = "lost"
    turn(window, clock, FRAME)
    assert window.link.trouble[0] == "generator lost: waiting for tcp://127.0.0.1:7"


def test_a_controller_steers_and_the_keyboard_joins_in(open_window, clock):
    script = ScriptController(parse_script("1 forward\n1 attack", FAKE_CARD.buttons))
    window = open_window(steer=lambda card: script)
    for _ in range(10):
        turn(window, clock, FRAME)
    for event in key(pygame.K_LEFT):
        window.handle(event)
    for _ in range(8):
        turn(window, clock, FRAME)
    held = [action.buttons for action in window.link.stream.actions]
    assert held == [{"forward"}, {"attack"}, {"forward", "turn_left"}, {"attack"}]


def test_a_replay_in_the_window_shows_what_was_recorded(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    engine, walk = WorldEngine(FakeWorldModel()), RandomController(FAKE_CARD.buttons, 6)
    recording = Recording("fake", "hall", 3, "float32", tuple(walk.act(None) for _ in range(12)))
    session, start = engine.open("hall", seed=3)
    recorded = [start.frames, *(session.step(action).frames for action in recording.actions)]

    link = Link(WorldStream, scene="hall", seed=3, server=ServerProcess(["--fake"]), card=FAKE_CARD)
    window = Window(link, steer=lambda card: Replay(recording), seconds=10)
    compared = set()

    def each(now):
        shown = window.shown
        if shown is not None and shown.chunk < len(recorded):
            assert np.array_equal(shown.pixels, recorded[shown.chunk][shown.index]), f"chunk {shown.chunk} differs"
            compared.add((shown.chunk, shown.index))
        elif shown is not None:
            window.done = True

    try:
        window.run(each)
    finally:
        window.close()
        link.close()
    assert len(compared) > 40


def test_it_closes_after_the_seconds_asked_for(open_window, clock):
    seen = []
    window = open_window(seconds=1.0, on_frame=seen.append)
    turns = 0
    while not window.done:
        turn(window, clock, FRAME)
        turns += 1
        assert turns < 100
    assert 16 <= len(seen) <= 19
    assert all(frame.shape == FAKE_CARD.frame_shape for frame in seen)


def test_quit_and_escape_end_it(open_window, clock):
    for event in (pygame.event.Event(pygame.QUIT), key(pygame.K_ESCAPE)[0]):
        window = open_window()
        window.handle(event)
        assert window.done


def test_full_screen_and_back(open_window, clock):
    window = open_window()
    turn(window, clock)
    before = pygame.display.get_surface().get_size()
    window.handle(key(pygame.K_F11)[0])
    assert pygame.display.get_surface().get_flags() & pygame.FULLSCREEN
    assert turn(window, clock)
    window.handle(key(pygame.K_RETURN, pygame.KMOD_LALT)[0])
    turn(window, clock)
    assert pygame.display.get_surface().get_size() == before


def test_closing_the_link_ends_the_stream_and_the_server(open_window, clock):
    server = Server()
    server.address = "tcp://127.0.0.1:2"
    window = open_window(server=server)
    turn(window, clock)
    window.link.close()
    assert window.link.stream.closed
    assert server.closed


def test_a_killed_generator_comes_back_by_itself(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    server = ServerProcess(["--fake"])
    link = Link(WorldStream, scene=None, seed=0, server=server, card=FAKE_CARD)
    window = Window(link)
    pids, told, end = [], [], time.monotonic() + 30

    def each(now):
        assert now < end, f"the world is not back: {link.status}, {link.trouble}"
        if window.first_shown is not None and not pids:
            pids.append(server.pid)
            os.kill(server.pid, signal.SIGKILL)
        if pids and link.trouble:
            told.append(link.trouble[0])
        if told and link.status == "playing" and window.shown.is_new:
            window.done = True

    try:
        window.run(each)
        assert set(told) == {"generator lost: restarting"}
        assert server.alive and server.pid != pids[0]
        pids.append(server.pid)
    finally:
        window.close()
        link.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_generator_that_refuses_to_start_ends_the_game_with_its_reason(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    link = Link(WorldStream, scene=None, seed=0, server=ServerProcess(["--world", "moon"]), card=FAKE_CARD)
    window = Window(link)
    try:
        with pytest.raises(UserError, match="unknown world 'moon'"):
            window.run()
    finally:
        window.close()
        link.close()
    assert not link.server.alive


def test_a_large_scale_is_cut_to_the_screen(open_window):
    open_window(card=FAKE_CARD, scale=16)
    wide, high = pygame.display.get_desktop_sizes()[0]
    size = pygame.display.get_surface().get_size()
    assert size[0] <= wide and size[1] <= high
    assert size[0] * FAKE_CARD.height == size[1] * FAKE_CARD.width


def test_no_screen_is_told_apart(monkeypatch, clock):
    monkeypatch.setenv("SDL_VIDEODRIVER", "no_such_driver")
    pygame.display.quit()
    with pytest.raises(NoDisplay, match="no window can be opened here"):
        Window(Link(StandIn, scene=None, seed=0, address="tcp://127.0.0.1:1"), clock=clock)


def test_why_a_restart_fails_is_said(open_window, clock):
    class Refused(Server):
        def poll(self):
            if self.restarts:
                raise UserError("port 5 is taken")
            return "tcp://127.0.0.1:5"

    window = open_window(server=Refused())
    turn(window, clock)
    window.link.server.alive, window.link.stream.status = False, "lost"
    turn(window, clock, FRAME)
    turn(window, clock, FRAME)
    assert window.link.trouble == ("generator lost: restarting", "port 5 is taken")


def test_key_names_are_pygames_and_the_windows_keys_are_told(open_window):
    open_window()
    for name in KEY_NAMES:
        assert pygame.key.name(pygame.key.key_code(name)) == name
    told = " ".join(keys for keys, _ in WINDOW_KEYS).lower().replace("/", " ").split()
    assert set(RESERVED) <= set(told)


@pytest.mark.parametrize("size", [(160, 128), (640, 512), (1350, 1080)])
def test_every_overlay_fits_every_size(size):
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    pygame.font.init()
    full = Overlay(
        rows=(("shown", "17.5 fps"),), buttons=(("forward", True), ("turn_left", False)), banner=("lost", "waiting"),
        toast="screenshot: /a/very/long/path" * 6, sheet=WINDOW_KEYS, word="paused", waking=(1.5, "loading"),
    )  # fmt: skip
    surface = pygame.Surface(size)
    draw_overlay(surface, full)
    assert pygame.surfarray.array3d(surface).max() > 150
