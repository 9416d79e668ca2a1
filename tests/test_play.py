"""`helios-world play`: what is not allowed is one line and exit code 2; without a display there is a video instead."""

import argparse
import sys
from pathlib import Path

import av
import pygame
import pytest
from PIL import Image

import helios_world
import helios_world.open
import helios_world.pack
from helios_world.action import Action
from helios_world.bridge.process import ServerProcess
from helios_world.bridge.stream import WorldStream
from helios_world.controllers import Recording
from helios_world.demos import play
from helios_world.demos.cli import main
from helios_world.demos.link import Link
from helios_world.engine import WorldEngine
from helios_world.errors import check_name
from helios_world.home import home_folder
from helios_world.testing import FAKE_CARD, GAME_CARD, FakeWorldModel


class Model(FakeWorldModel):
    dtype = "float32"


@pytest.fixture
def world(monkeypatch, tmp_path):
    """A pack named `fake` that needs no weights, an empty current folder and no display."""

    def read_card(name, options=None):
        check_name("world", name, ["fake"])
        return FAKE_CARD

    monkeypatch.setattr(helios_world.pack, "read_card", read_card)
    monkeypatch.setattr(helios_world.open, "load_engine", lambda world, options=None: WorldEngine(Model()))
    monkeypatch.chdir(tmp_path)
    # A checkout that is not installed is found from its own folder alone, which is no longer the current one.
    monkeypatch.setenv("PYTHONPATH", str(Path(helios_world.__file__).resolve().parents[1]))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def count_frames(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--world", "moon"], "unknown world 'moon': choose from fake"),
        (["--scene", "attic"], "unknown scene 'attic': choose from maze, hall"),
        (["--controller", "mouse"], "unknown controller 'mouse': choose from keyboard, explorer, random, script:FILE"),
        (["--controller", "script:gone.txt"], "cannot read script gone.txt"),
        (["--controller", "script:bad.txt"], "bad.txt, line 1: unknown button 'fly': choose from forward"),
        (["--controller", "replay:bad.txt"], "replay bad.txt is damaged"),
        (["--controller", "keyboard", "--headless"], "'keyboard' needs a window"),
        (["--dtype", "int8"], "unknown dtype 'int8': choose from auto, float32, bfloat16"),
        (["--seed", "-1"], "seed is -1: must be 0 or more"),
        (["--seconds", "0"], "seconds is 0: must be more than 0"),
        (["--seconds", "nan"], "seconds is nan"),
        (["--scale", "0"], "scale is 0: must be 1 to 16"),
        (["--record", "walk.avi"], "the name must end in .mp4"),
        (["--record", "nowhere/walk.mp4"], "there is no folder"),
        (["--connect", "localhost"], "unknown address 'localhost': must be like tcp://127.0.0.1:5557"),
    ],
)
def test_what_is_not_allowed_is_one_line_and_writes_nothing(world, capfd, words, complaint):
    (world / "bad.txt").write_text("3 fly\n")
    options = ["play", *words] + ([] if {"--world", "--connect"} & set(words) else ["--world", "fake"])
    assert main(options) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and complaint in err
    assert [path.name for path in world.iterdir()] == ["bad.txt"]


@pytest.mark.parametrize("option", [["--world", "fake"], ["--drift-correction", "0.5"]])
def test_the_server_chooses_its_world(world, capfd, option):
    assert main(["play", "--connect", "tcp://127.0.0.1:9", *option]) == 2
    assert f"{option[0]} is chosen by the server" in capfd.readouterr().err


def test_without_a_display_it_says_so_and_leaves_ten_seconds(world, capfd, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert main(["play", "--world", "fake"]) == 0
    out, err = capfd.readouterr()
    assert out.split() == ["play.mp4", "play.png", "play.json"]
    assert err.splitlines()[0] == "there is no display: playing 10 s without a window"
    assert count_frames("play.mp4") == 44 * FAKE_CARD.frames_per_chunk
    with Image.open("play.png") as sheet:
        sheet.verify()


def test_headless_obeys_its_options_and_its_replay_shows_the_same(world, capfd):
    common = ["play", "--world", "fake", "--headless"]
    assert main([*common, "--seconds", "2", "--record", "a.mp4", "--controller", "random", "--seed", "4"]) == 0
    recording = Recording.read(world / "a.json")
    assert (recording.world, recording.scene, recording.seed, recording.dtype) == ("fake", "maze", 4, "float32")
    assert len(recording.actions) == 9
    assert main(["play", "--headless", "--record", "b.mp4", "--controller", "replay:a.json"]) == 0
    assert (world / "a.png").read_bytes() == (world / "b.png").read_bytes()
    assert (world / "a.json").read_bytes() == (world / "b.json").read_bytes()
    assert "differs from the replay's 4" in _complaint(capfd, "--controller", "replay:a.json", "--seed", "5")


@pytest.mark.parametrize("card", [FAKE_CARD, GAME_CARD])
def test_headless_says_what_its_games_came_to(world, capfd, monkeypatch, card):
    monkeypatch.setattr(helios_world.open, "load_engine", lambda world, options=None: WorldEngine(Model(card)))
    (world / "s.txt").write_text("2 attack\n1 back\n1 attack\n")
    words = ["play", "--world", "fake", "--headless", "--seconds", "1", "--controller", "script:s.txt"]
    assert main(words) == 0
    said = "games 2, rewards 4, score 4 in all" in capfd.readouterr().err
    assert said == card.outcomes


def _complaint(capfd, *words):
    capfd.readouterr()
    assert main(["play", "--headless", *words]) == 2
    return capfd.readouterr().err


def test_a_replay_with_buttons_the_world_lacks_is_refused(world, capfd):
    Recording("fake", "maze", 0, "float32", (Action.of("fly"),)).write(world / "r.json")
    assert "unknown button 'fly'" in _complaint(capfd, "--controller", "replay:r.json")


def test_a_folder_that_may_not_be_written_is_refused(world, capfd, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    assert "cannot record to walk.mp4: Permission denied" in _complaint(
        capfd, "--world", "fake", "--record", "walk.mp4"
    )


def test_a_game_in_a_window_is_recorded_and_leaves_nothing_running(world, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    words = ["--world", "fake", "--controller", "random", "--seconds", "1", "--record", "walk.mp4"]
    plan = play.check(parser.parse_args(words))
    link = Link(WorldStream, scene=None, seed=0, server=ServerProcess(["--fake"]), card=FAKE_CARD)
    try:
        assert play.play_in_window(plan, link) is None
    finally:
        link.close()
    assert not link.server.alive
    assert [path.name for path in world.iterdir()] == ["walk.mp4"]
    assert 15 <= count_frames("walk.mp4") <= 19


def test_a_window_that_cannot_open_says_why(world, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "no_such_driver")
    pygame.display.quit()
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    plan = play.check(parser.parse_args(["--world", "fake"]))
    link = Link(WorldStream, scene=None, seed=0, address="tcp://127.0.0.1:1", card=FAKE_CARD)
    assert play.play_in_window(plan, link).startswith("no window can be opened here")


def test_a_display_is_looked_for_only_where_it_can_be_missing():
    assert play._no_display({}, "linux") == "there is no display"
    assert play._no_display({"WAYLAND_DISPLAY": "wayland-0"}, "linux") is None
    assert play._no_display({}, "darwin") is None


def test_the_home_folder_is_the_platforms_unless_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home_folder({"HELIOS_WORLD_HOME": str(tmp_path / "x")}, "linux") == tmp_path / "x"
    assert home_folder({}, "linux") == tmp_path / ".local" / "share" / "helios-world"
    assert home_folder({"XDG_DATA_HOME": "/data"}, "linux").as_posix() == "/data/helios-world"
    assert home_folder({}, "darwin") == tmp_path / "Library" / "Application Support" / "helios-world"
    assert home_folder({"LOCALAPPDATA": str(tmp_path)}, "win32") == tmp_path / "helios-world"
