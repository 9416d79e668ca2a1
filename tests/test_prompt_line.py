"""Telling a world what to show: the line that is written in, and the window around it."""

import time
from dataclasses import replace

import pygame
import pytest

from helios_world.bridge.server import WorldServer
from helios_world.bridge.stream import WorldStream
from helios_world.demos.link import Link
from helios_world.demos.prompt_line import LONGEST, PromptLine
from helios_world.demos.window import FADE, Window
from helios_world.engine import WorldEngine
from helios_world.testing import FAKE_CARD, FakeWorldModel
from helios_world.world import Start

TOLD = replace(FAKE_CARD, takes_prompt=True)


def test_a_line_is_written_mended_and_sent():
    line = PromptLine()
    line.write("lost")
    assert line.text is None, "what is typed while it is closed is not for it"
    line.open()
    for characters in ("a ", "wood", "x"):
        line.write(characters)
    assert line.press("backspace") is None and line.press("w") is None and line.text == "a wood"
    assert line.press("return") == "a wood" and line.text is None


@pytest.mark.parametrize("key", ["escape", "return"])
def test_nothing_written_is_nothing_told(key):
    line = PromptLine()
    line.open()
    line.write("  ")
    assert line.press(key) is None and line.text is None


def test_a_line_has_an_end():
    line = PromptLine()
    line.open()
    line.write("x" * (LONGEST + 5))
    assert len(line.text) == LONGEST


@pytest.fixture
def play(served, monkeypatch, tmp_path):
    """`play(card, keys)`: a window on a live server; `keys` are pressed once it plays, then half a second goes by."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("HELIOS_WORLD_HOME", str(tmp_path))

    def press(keys):
        for key in keys:
            if len(key) == 1:
                pygame.event.post(pygame.event.Event(pygame.TEXTINPUT, text=key))
            for kind in (pygame.KEYDOWN, pygame.KEYUP):
                pygame.event.post(pygame.event.Event(kind, key=pygame.key.key_code(key), mod=0))

    def playing(card, keys):
        server = WorldServer(WorldEngine(FakeWorldModel(card)))
        with served(server) as address:
            start = Start(prompt="a wood") if card.takes_prompt else Start()
            link = Link(WorldStream, scene=None, seed=0, start=start, address=address)
            window, pressed = Window(link, seconds=0.5), []

            def each(now):
                if window.first_shown is not None and not pressed:
                    pressed.append(now)
                    press(keys)

            window.run(each)
            words = window._words(time.monotonic())
            held = window.held
            window.close()
            [seat] = server._seats.values()
            link.close()
        return seat.session.state.prompts, words, held

    return playing


def test_a_player_tells_the_world_what_to_show(play):
    prompts, words, held = play(TOLD, ["return", *"sea", "backspace", "a", "w", "return"])
    assert prompts.blend(100) == (("seaw", 1.0),), "letters are written, and steer nothing"
    assert words == "seaw" and not held
    [begun] = {change.over for change in prompts.changes} or {FADE}
    assert begun == FADE


def test_escape_closes_the_line_and_not_the_window(play):
    prompts, *_ = play(TOLD, ["return", *"sea", "escape"])
    assert prompts.blend(100) == (("a wood", 1.0),)


def test_a_world_without_words_says_so(play):
    prompts, words, _ = play(FAKE_CARD, ["return", *"w"])
    assert prompts is None and words == "world 'fake' takes no prompt: it shows what it was trained on"
