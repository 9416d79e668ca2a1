"""The real window under a real X server, driven with real key events: what is held moves the picture the right way."""

import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import helios_world
from helios_world.bridge.process import ServerProcess
from helios_world.demos.hud import BACK
from helios_world.pack import list_packs

pytestmark = [pytest.mark.display, pytest.mark.slow]

SCREEN = (800, 640)
SMALL = (160, 128)  # what a screen picture is shrunk to before motion is measured
PATIENCE = 3.0  # seconds from a key to the next change of the picture, at most
LOOK = 0.03  # seconds between two looks at the screen: about twice per frame
STARTS = 6  # that are looked at
FARTHEST = 30  # small pixels that two looks may differ by


class Display:
    """An X server of our own whose screen lies in a file."""

    def __init__(self, folder: Path):
        read, write = os.pipe()
        size = f"{SCREEN[0]}x{SCREEN[1]}x24"
        command = ["Xvfb", "-displayfd", str(write), "-screen", "0", size, "-fbdir", str(folder), "-nolisten", "tcp"]
        command.append("-noreset")  # it would start anew after each xdotool, and refuse a window that comes meanwhile
        self._process = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
        os.close(write)
        with os.fdopen(read) as answer:
            number = answer.readline().strip()
        assert number, "Xvfb did not start"
        self.name = f":{number}"
        self._file = folder / "Xvfb_screen0"

    def picture(self) -> np.ndarray:
        """The screen now, uint8 (height, width, 3)."""
        data = self._file.read_bytes()
        words = np.frombuffer(data, ">u4", 25)  # XWD header: its size, ..., bytes per line [12], colours [19]
        begin = int(words[0] + 12 * words[19])
        rows = np.frombuffer(data, np.uint8, SCREEN[1] * int(words[12]), begin).reshape(SCREEN[1], -1)
        return rows[:, : SCREEN[0] * 4].reshape(SCREEN[1], SCREEN[0], 4)[..., 2::-1]

    def xdotool(self, *words: str) -> str:
        environ = {**os.environ, "DISPLAY": self.name}
        ran = subprocess.run(["xdotool", *words], env=environ, capture_output=True, text=True, timeout=20)
        assert not ran.stderr, ran.stderr
        return ran.stdout

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


class Game:
    """`helios-world play` in a process, and its picture."""

    def __init__(self, display: Display, options: list[str], home: Path):
        environ = {
            **os.environ,
            "DISPLAY": display.name,
            "SDL_VIDEODRIVER": "x11",
            "HELIOS_WORLD_HOME": str(home),
            "PYTHONPATH": str(Path(helios_world.__file__).resolve().parents[1]),
        }
        self.display = display
        self.process = subprocess.Popen([sys.executable, "-m", "helios_world", "play", *options], env=environ, cwd=home)
        try:
            self._view = self._find()
            self._wait_for_a_picture()
        except BaseException:
            self.close()
            raise

    def _find(self) -> tuple[slice, slice]:
        window = self._wait(lambda: self.display.xdotool("search", "--onlyvisible", "--class", "helios-world"))
        self.display.xdotool("windowfocus", window.split()[0])
        words = self.display.xdotool("getwindowgeometry", "--shell", window.split()[0]).split()
        x, y, width, height = (int(dict(w.split("=") for w in words)[name]) for name in ("X", "Y", "WIDTH", "HEIGHT"))
        return slice(y, y + height), slice(x, x + width)

    def _wait_for_a_picture(self) -> None:
        back = np.array(BACK, np.uint8)

        def woken() -> bool:
            screen = self.display.picture()[self._view]
            return bool((screen[4:20, 4:20] != back).any() and screen.max() > 0)

        self._wait(woken)

    def _wait(self, happened, seconds: float = 60.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the window process ended with {self.process.returncode}"
            found = happened()
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"nothing happened within {seconds:g} s")

    def picture(self) -> np.ndarray:
        return self.display.picture()[self._view]

    def motion(self, key: str | None, seconds: float) -> float:
        """Small pixels that the picture moves right while `key` is held, until `seconds` after its first change."""
        looks = [self.picture()]
        if key:
            self.display.xdotool("keydown", key)
        end = time.monotonic() + (PATIENCE if key else seconds)
        while time.monotonic() < end:
            time.sleep(LOOK)
            now = self.picture()
            if not np.array_equal(now, looks[-1]):
                end = end if len(looks) > 1 else min(end, time.monotonic() + seconds)
                looks.append(now)
        if key:
            self.display.xdotool("keyup", key)
        time.sleep(0.5)  # chunks already on their way are let pass
        return sum(shift(a, b) for a, b in pairwise(map(small, looks)))

    def start_anew(self) -> None:
        """R, and the picture of another start."""
        before = self.picture()
        self.display.xdotool("key", "r")
        self._wait(lambda: not np.array_equal(self.picture(), before))

    def children(self) -> list[int]:
        """Process ids of what the game started."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(15)


def small(picture: np.ndarray) -> np.ndarray:
    """A picture in grey, float, SMALL[1] x SMALL[0]."""
    grey = picture.mean(-1)
    rows, columns = grey.shape[0] // SMALL[1], grey.shape[1] // SMALL[0]
    return grey[: rows * SMALL[1], : columns * SMALL[0]].reshape(SMALL[1], rows, SMALL[0], columns).mean((1, 3))


def shift(before: np.ndarray, after: np.ndarray) -> int:
    """Pixels that the content of `before` lies further right in `after`, by normalised cross-correlation."""
    middle = slice(before.shape[0] // 5, -before.shape[0] // 5)
    a, b = (_edges(picture[middle]) for picture in (before, after))
    width = a.shape[1]

    def likeness(by: int) -> float:
        x, y = a[:, max(0, -by) : width - max(0, by)], b[:, max(0, by) : width - max(0, -by)]
        # A shift of nothing wins a tie, so a picture without any detail counts as still.
        return float((x * y).sum() / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-6)) - 1e-4 * abs(by)

    return max(range(-FARTHEST, FARTHEST + 1), key=likeness)


def _edges(picture: np.ndarray) -> np.ndarray:
    smooth = (picture[:, :-2] + picture[:, 1:-1] + picture[:, 2:]) / 3
    slope = smooth[:, 2:] - smooth[:, :-2]
    return slope - slope.mean()


def test_shift_measures_what_it_says():
    rng = np.random.default_rng(0)
    wide = np.repeat(rng.random((SMALL[1], 60)), 5, 1)
    for by in (-17, -3, 0, 4, 25):
        before, after = wide[:, 60:220], wide[:, 60 - by : 220 - by]
        assert shift(before, after + rng.normal(0, 0.02, after.shape)) == by
    flat = np.full((SMALL[1], SMALL[0]), 7.0)
    assert shift(flat, flat) == 0


@pytest.fixture
def display(tmp_path):
    for program in ("Xvfb", "xdotool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: the real window cannot be driven")
    display = Display(tmp_path)
    yield display
    display.close()


@pytest.fixture(params=["fake", "doom"])
def options(request):
    """Of `play`: a running server of the fake world to join, or the real world with a server of its own."""
    if request.param in list_packs():
        yield ["--world", request.param]
    elif request.param == "fake":
        server = ServerProcess(["--fake"])
        try:
            yield ["--connect", server.wait_ready(30)]
        finally:
            server.close()
    else:
        pytest.skip(f"the pack {request.param!r} is not in this checkout")


def test_turning_moves_the_picture_the_right_way(display, options, tmp_path):
    game = Game(display, options, tmp_path)
    try:
        still, left, right = [], [], []
        for _ in range(STARTS):
            time.sleep(0.7)
            still.append(game.motion(None, 0.6))
            left.append(game.motion("Left", 1.0))
            right.append(game.motion("Right", 1.0))
            game.start_anew()
        children = game.children()
        display.xdotool("key", "Escape")
        assert game.process.wait(10) == 0, "Esc must end the game"
        assert not any(Path(f"/proc/{pid}").exists() for pid in children), "and nothing may be left of it"
    finally:
        game.close()
    measured = f"still {still}, left {left}, right {right}"
    print(measured)
    # On a bare wall no motion can be seen: two thirds of the starts must show it, and the middle one.
    enough = 2 * STARTS // 3
    assert np.median(left) > 12 and sum(move > 12 for move in left) >= enough, measured
    assert np.median(right) < -12 and sum(move < -12 for move in right) >= enough, measured
    assert np.median(np.abs(still)) <= 2 and sum(abs(move) <= 6 for move in still) >= enough, measured
