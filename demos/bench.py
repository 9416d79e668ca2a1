"""`helios-world bench`: the game in the real window with keys pressed at random times, or the bridge alone."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helios_world.controllers import keys_by_button
from helios_world.demos.report import print_report, report
from helios_world.errors import UserError

if TYPE_CHECKING:
    from helios_world.demos.link import Link

STARTED = time.monotonic()
PAUSE, HOLD = 0.35, (0.03, 0.7)  # seconds: mean between two presses; shortest and longest press


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench`."""
    parser.add_argument(
        "what", choices=("play", "bridge"),
        help="play: generator, bridge and window together; bridge: frame ages, with nothing generated",
    )  # fmt: skip
    parser.add_argument("--world", default="doom", help="world pack, by name or folder (default: doom)")
    parser.add_argument("--seconds", type=float, help="to measure (default: 60 of play, 10 of each case of bridge)")
    parser.add_argument("--seed", type=int, default=0, help="of the world and of the key presses (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Plays and prints the figures."""
    if args.seed < 0:
        raise UserError(f"seed is {args.seed}: must be 0 or more")
    if args.seconds is None:
        args.seconds = {"play": 60.0, "bridge": 10.0}[args.what]
    if not (math.isfinite(args.seconds) and args.seconds > 0):
        raise UserError(f"seconds is {args.seconds:g}: must be more than 0")
    return {"play": _play, "bridge": _bridge}[args.what](args)


def _bridge(args: argparse.Namespace) -> int:
    from helios_world.demos.bench_bridge import measure

    figures = measure(args.seconds)
    print_report(report(f"helios-world bench bridge --seconds {args.seconds:g}", args.seed, **figures), args.json)
    return 0


def _play(args: argparse.Namespace) -> int:
    from helios_world.pack import read_card

    card = read_card(args.world)
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # the same window and loop, without a screen
    from helios_world.bridge.process import ServerProcess
    from helios_world.bridge.stream import WorldStream
    from helios_world.demos.link import Link

    server = ServerProcess(["--world", args.world])
    link = Link(WorldStream, scene=None, seed=args.seed, server=server, card=card)
    print(f"playing {args.seconds:g} s of {card.name}", file=sys.stderr)
    try:
        figures = play_and_measure(link, args.seconds, args.seed)
    finally:
        link.close()
    command = f"helios-world bench play --world {args.world} --seconds {args.seconds:g} --seed {args.seed}"
    print_report(report(command, args.seed, **figures), args.json)
    return 0


def play_and_measure(link: Link, seconds: float, seed: int) -> dict[str, Any]:
    """Plays `seconds` in a window on `link` and gives the figures. UserError if the player closed it before."""
    from helios_world.bridge.stats import percentiles
    from helios_world.demos.window import Window

    shown: list[float] = []
    window = Window(link, seconds=seconds, on_frame=lambda pixels: shown.append(time.monotonic()))
    try:
        presser, was_over = None, False

        def each(now: float) -> None:
            nonlocal presser, was_over
            if window.first_shown is None:
                return
            if window.is_over and not was_over:
                window.post_key("r", True, now)
            was_over = window.is_over
            if presser is None:
                keys = [names[0] for names in keys_by_button(link.card.bindings).values()]
                presser = Presses(keys, seed, now)
            for name, down, due in presser.until(now):
                window.post_key(name, down, due)

        window.run(each)
        stats = link.stream.stats
        lasted = 0.0 if window.first_shown is None else time.monotonic() - window.first_shown
    finally:
        window.close()
    if lasted < seconds:
        raise UserError("the window was closed before the measurement was over")
    middle, high = percentiles(window.key_to_pixels)
    return {
        "fps": round((len(shown) - 1) / (shown[-1] - shown[0]), 3),
        "chunk_ms_p50": round(stats.chunk_ms_p50, 2),
        "chunk_ms_p95": round(stats.chunk_ms_p95, 2),
        "key_to_pixels_ms_p50": round(middle, 2),
        "key_to_pixels_ms_p95": round(high, 2),
        "cold_start_s": round(shown[0] - _process_start(), 3),
        "late_chunks": stats.late_chunks,
        "presses": len(window.key_to_pixels),
        "seconds": seconds,
    }


class Presses:
    """Keys that go down and up at random times, fixed by the seed. No key is pressed twice at once."""

    def __init__(self, keys: Sequence[str], seed: int, now: float):
        self._keys = list(keys)
        self._rng = np.random.default_rng((seed, 1))
        self._next = now + PAUSE
        self._down: dict[str, float] = {}  # key to when it goes up

    def until(self, now: float) -> list[tuple[str, bool, float]]:
        """What happened up to `now` since the last call: (key, went down, when), in order."""
        happened: list[tuple[str, bool, float]] = []
        while True:
            key, up = min(self._down.items(), key=lambda item: item[1], default=("", math.inf))
            if min(up, self._next) > now:
                return happened
            if up <= self._next:
                del self._down[key]
                happened.append((key, False, up))
            else:
                happened += self._press(self._next)
                self._next += float(self._rng.exponential(PAUSE)) + 0.01

    def _press(self, when: float) -> list[tuple[str, bool, float]]:
        free = [key for key in self._keys if key not in self._down]
        if not free:
            return []
        key = free[int(self._rng.integers(len(free)))]
        self._down[key] = when + float(self._rng.uniform(*HOLD))
        return [(key, True, when)]


def _process_start() -> float:
    """When this process began, on time.monotonic's clock; where the system does not tell, when this was imported."""
    stat = Path("/proc/self/stat")
    if not stat.is_file():
        return STARTED
    ticks = int(stat.read_text().rsplit(")", 1)[1].split()[19])  # field 22: since boot
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - since_boot
