"""python -m tests.soak: many clients join and leave a server for long; what it holds must not grow.

First a warm-up, then an ebb in which everybody leaves, then the flood, then an ebb again. Memory is looked at through
the flood (a line through the samples) and from one ebb to the other, when nothing should be held that was not before.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from helios_world.bridge.process import ServerProcess
from helios_world.bridge.server import LEASE
from helios_world.demos.report import print_report, report
from helios_world.engine import Session, WorldEngine
from helios_world.testing import FakeWorldModel
from tests.visitors import Place, Tally, Town

SERVER = (sys.executable, str(Path(__file__).with_name("soak_server.py")))
TICK = 0.01  # seconds between two looks at each client, which a frame may wait for
LONG = 1800.0  # seconds from which on a slope of memory says something
MB = 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `warm_up` and both ebbs are within `seconds`."""

    seconds: float = 3600.0
    clients: int = 100
    seed: int = 0
    world: str = "fake"
    batch_ms: float = 20.0
    lease: float = LEASE

    @property
    def warm_up(self) -> float:
        return min(120.0, self.seconds / 4)

    @property
    def settling(self) -> float:
        """Seconds of the flood in which sessions and the allocator's store fill up, before memory is looked at."""
        return max(self.lease + 10.0, self.seconds / 6)

    @property
    def sample_every(self) -> float:
        return min(5.0, max(0.5, self.seconds / 120))

    @property
    def room(self) -> int:
        """Sessions that the server has: some for clients that vanished, fewer than come to vanish within a lease."""
        return self.clients + self.clients // 4 + 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is promised. Ages leave room for a machine that has other work; leaks are leaks anywhere."""

    slope_mb_per_h: float = 1.0
    growth_mb: float = 1.0  # from one ebb to the other, free memory given back
    growth_blocks: int = 1000  # the same in Python's own allocations
    session_blocks: float = 350.0  # of those, for each session held: about 100, and what Python keeps in free lists
    age_ms_p99: float = 500.0


@dataclass
class Watch:
    """Looks at the server process from outside, and at what it says that it holds."""

    pid: int
    counts_path: Path
    began: float = field(default_factory=time.monotonic)

    def counts(self) -> dict[str, int]:
        return json.loads(self.counts_path.read_text())

    def look(self) -> dict[str, float]:
        """One sample. `memory_mb` is what is written by this process alone: no other process moves that figure."""
        folder = Path("/proc") / str(self.pid)
        kept = _kilobytes(folder / "smaps_rollup")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        return {
            "at_s": round(time.monotonic() - self.began, 2),
            "memory_mb": round(kept["Private_Dirty"] * 1024 / MB, 3),
            "rss_mb": round(kept["Rss"] * 1024 / MB, 3),
            "descriptors": len(os.listdir(folder / "fd")),
            "threads": int(status["Threads"]),
            **self.counts(),
        }

    def trim(self) -> None:
        """Makes the server give free memory back."""
        before = self.counts()["trims"]
        os.kill(self.pid, signal.SIGUSR1)
        wait_until(lambda: self.counts()["trims"] > before, 10.0)


class Soak:
    """Runs a plan; `figures` says what was found, also in the midst of it.

    Args:
        stop: asked all the time; what was measured until then is kept.
        each: is given every sample.
    """

    def __init__(self, plan: Plan, *, stop: Callable[[], bool] = lambda: False, each: Callable[[dict], Any] = print):
        self._plan, self._stop, self._each = plan, stop, each
        self.tally = Tally()
        self.samples: list[dict[str, float]] = []  # of the flood
        self.ebbs: list[dict[str, float]] = []
        self._lasted = 0.0

    def run(self) -> None:
        """Blocks until all is done or `stop` says so."""
        plan = self._plan
        with _server(plan) as (address, watch):
            town = Town(address, Random(plan.seed), self.tally, _twins(plan.world))
            self._play(town, plan.warm_up, watch, [])
            self._ebb(watch)
            left = plan.seconds - (time.monotonic() - watch.began) - (plan.lease + 3.0)
            self._play(town, left, watch, self.samples)
            self._ebb(watch)
            self._lasted = time.monotonic() - watch.began

    def _play(self, town: Town, seconds: float, watch: Watch, samples: list[dict[str, float]]) -> None:
        """All clients come and go for so long; then all leave."""
        now = time.monotonic()
        places, ends, due, seen = [Place(town, now) for _ in range(self._plan.clients)], now + seconds, now, 0
        while (now := time.monotonic()) < ends and not self._stop():
            for place in places:
                place.tick(now)
            if now >= due:
                due = now + self._plan.sample_every
                fresh, seen = self.tally.ages[seen:], len(self.tally.ages)
                samples.append({**watch.look(), **percentiles("age_ms", fresh)})
                self._each(samples[-1])
            time.sleep(max(0.0, now + TICK - time.monotonic()))
        for place in places:
            place.leave()

    def _ebb(self, watch: Watch) -> None:
        """Waits until the server holds no session, and looks at it: as it is, and with its free memory given back."""
        if self._stop():
            return
        wait_until(lambda: watch.counts()["sessions"] == 0 or self._stop(), self._plan.lease + 10.0)
        wait_until(self._stop, 1.0)  # connections that end, and the next writing of the counts
        as_it_is = watch.look()
        watch.trim()
        self.ebbs.append({**watch.look(), "untrimmed_mb": as_it_is["memory_mb"]})
        self._each(self.ebbs[-1])

    def figures(self) -> dict[str, Any]:
        """What was measured, whatever part of the plan was done; None for what was not."""
        settled = [s for s in self.samples if s["at_s"] - self.samples[0]["at_s"] >= self._plan.settling]
        flood = settled or self.samples
        slope, error = line_through([s["at_s"] / 3600 for s in flood], [s["memory_mb"] for s in flood])
        quarter = len(self.tally.ages) // 4
        last = (self.ebbs or self.samples or [{}])[-1]
        return {
            "seconds": round(self._lasted or (self.samples or [{"at_s": 0.0}])[-1]["at_s"], 1),
            "complete": len(self.ebbs) == 2,
            "clients": self._plan.clients,
            "visits": dict(sorted(self.tally.visits.items())),
            "faults": dict(self.tally.faults),
            "logged": last.get("logged"),
            "chunks": len(self.tally.ages),
            "memory_mb_p50": median([s["memory_mb"] for s in flood]),
            "memory_mb_max": max((s["memory_mb"] for s in self.samples), default=None),
            "memory_slope_mb_per_h": slope,
            "memory_slope_error_mb_per_h": error,
            **growth(self.ebbs),
            "session_blocks_max": blocks_of_a_session(self.ebbs, self.samples),
            "descriptors_max": max((s["descriptors"] for s in self.samples), default=None),
            "threads_max": max((s["threads"] for s in self.samples), default=None),
            "sessions_max": max((s["sessions"] for s in self.samples), default=None),
            **percentiles("age_ms", self.tally.ages),
            "age_ms_p99_typical": median([s["age_ms_p99"] for s in self.samples if s["age_ms_p99"] is not None]),
            "age_ms_p99_first_quarter": percentiles("age_ms", self.tally.ages[:quarter])["age_ms_p99"],
            "age_ms_p99_last_quarter": percentiles("age_ms", self.tally.ages[-quarter:])["age_ms_p99"],
            **percentiles("answer_ms", self.tally.answers),
        }


def growth(ebbs: Sequence[dict[str, float]]) -> dict[str, Any]:
    """From the first ebb to the last; nothing of less than two."""
    if len(ebbs) < 2:
        return {}
    first, last = ebbs[0], ebbs[-1]
    return {
        "empty_memory_mb": last["memory_mb"],
        "empty_growth_mb": round(last["memory_mb"] - first["memory_mb"], 3),
        "empty_growth_untrimmed_mb": round(last["untrimmed_mb"] - first["untrimmed_mb"], 3),
        "empty_growth_blocks": last["blocks"] - first["blocks"],
        "empty_descriptors": [first["descriptors"], last["descriptors"]],
        "empty_threads": [first["threads"], last["threads"]],
        "empty_sessions": last["sessions"],
    }


def blocks_of_a_session(ebbs: Sequence[dict[str, float]], samples: Sequence[dict[str, float]]) -> float | None:
    """The most that was held for each session, over what an empty server holds, while there were many."""
    full = [s for s in samples if 2 * s["sessions"] > max(t["sessions"] for t in samples)]
    most = max(((s["blocks"] - ebbs[0]["blocks"]) / s["sessions"] for s in full if ebbs), default=None)
    return None if most is None else round(most, 1)


def broken(figures: dict[str, Any], bounds: Bounds = Bounds()) -> list[str]:
    """The promises that `figures` do not keep, in words."""
    said = [f"{count} times: {fault}" for fault, count in figures["faults"].items()]
    if not figures["complete"]:
        return [*said, "it was ended before its time"]
    checks = {
        "the server logged a warning": figures["logged"] > 0,
        "sessions are left": figures["empty_sessions"] > 0,
        "memory grew from ebb to ebb": figures["empty_growth_mb"] > bounds.growth_mb,
        "objects grew from ebb to ebb": figures["empty_growth_blocks"] > bounds.growth_blocks,
        "more objects than the sessions need": figures["session_blocks_max"] > bounds.session_blocks,
        "descriptors are left": figures["empty_descriptors"][1] > figures["empty_descriptors"][0],
        "more descriptors than connections": figures["descriptors_max"]
        > figures["empty_descriptors"][0] + 1.1 * figures["clients"],
        "threads changed": {*figures["empty_threads"], figures["threads_max"]} != {figures["empty_threads"][0]},
        "frames are old": figures["age_ms_p99"] > bounds.age_ms_p99,
    }
    if figures["seconds"] >= LONG:
        checks["memory grows"] = figures["memory_slope_mb_per_h"] > bounds.slope_mb_per_h
    return said + [words for words, is_broken in checks.items() if is_broken]


def line_through(hours: Sequence[float], values: Sequence[float]) -> tuple[float | None, float | None]:
    """Slope by least squares and its standard error, per hour; None of too few."""
    if len(hours) < 3:
        return None, None
    x, y = np.asarray(hours) - np.mean(hours), np.asarray(values) - np.mean(values)
    slope = float(x @ y / (x @ x))
    rest = y - slope * x
    return round(slope, 3), round(float(np.sqrt(rest @ rest / (len(x) - 2) / (x @ x))), 3)


def percentiles(name: str, seconds: Sequence[float]) -> dict[str, float | None]:
    """p50, p99 and the greatest, in milliseconds."""
    values = np.asarray(seconds, np.float64) * 1000
    if not len(values):
        return {f"{name}_{which}": None for which in ("p50", "p99", "max")}
    middle, high, greatest = np.percentile(values, [50, 99, 100])
    return {
        f"{name}_p50": round(float(middle), 2),
        f"{name}_p99": round(float(high), 2),
        f"{name}_max": round(float(greatest), 2),
    }


def median(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return round(float(np.median(values)), 3) if len(values) else None


def wait_until(done: Callable[[], bool], seconds: float) -> None:
    """Returns when `done` or after so many seconds."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.1)


def _kilobytes(path: Path) -> dict[str, int]:
    lines = (line.split() for line in path.read_text().splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) for words in lines}


def _twins(world: str) -> Callable[[int], Session | None]:
    """Local sessions that make the same frames, where that costs nothing."""
    engine = WorldEngine(FakeWorldModel())
    return lambda seed: engine.open(seed=seed)[0] if world == "fake" else None


@contextmanager
def _server(plan: Plan) -> Iterator[tuple[str, Watch]]:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        counts = Path(folder) / "counts.json"
        options = {"world": plan.world, "batch-ms": plan.batch_ms, "max-sessions": plan.room, "lease": plan.lease}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        process = ServerProcess([*words, "--counts", str(counts)], program=SERVER)
        try:
            yield process.wait_ready(120.0), Watch(process.pid, counts)
        finally:
            process.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="all in all (3600)")
    parser.add_argument("--clients", type=int, default=100, help="that are there at the same time (100)")
    parser.add_argument("--seed", type=int, default=0, help="of who comes and what they do (0)")
    parser.add_argument("--world", default="fake", help="fake, or a world pack; a large one takes few clients (fake)")
    parser.add_argument("--batch-ms", type=float, default=20.0, help="time that the fake world takes for a batch (20)")
    parser.add_argument("--lease", type=float, default=LEASE, help="seconds that a session outlives its client (30)")
    parser.add_argument("--samples", type=Path, help="file for every sample, one JSON object a line")
    parser.add_argument("--json", action="store_true", help="print figures as one JSON object, also on SIGTERM")
    args = parser.parse_args(argv)
    plan = Plan(args.seconds, args.clients, args.seed, args.world, args.batch_ms, args.lease)
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    out = open(args.samples or os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    with out:
        soak = Soak(plan, stop=lambda: bool(told), each=lambda sample: print(json.dumps(sample), file=out, flush=True))
        soak.run()
    figures = soak.figures()
    words = sys.argv[1:] if argv is None else argv
    print_report(report(" ".join(["python -m tests.soak", *words]), plan.seed, **figures), args.json)
    for words in broken(figures):
        print(f"broken: {words}", file=sys.stderr)
    return 1 if broken(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
