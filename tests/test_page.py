"""The modules of the browser's page, under node: by themselves, and the player beside the one of the bridge."""

import json
import math
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from helios_world.bridge.player import ChunkPlayer
from helios_world.bridge.score import Score
from helios_world.world import Outcome

PAGE = Path(__file__).resolve().parent / "page"
WEB = PAGE.parent.parent / "helios_world" / "gateway" / "web"
NODE = shutil.which("node")
FPS, CHUNK = 17.5, 4

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


def node(*words, **options):
    return subprocess.run([NODE, *map(str, words)], capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize("path", sorted(PAGE.glob("*.test.mjs")), ids=lambda path: path.name)
def test_module(path):
    ran = node("--test", "--test-reporter=tap", path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "# fail 0" in ran.stdout


@pytest.mark.parametrize("path", sorted(WEB.glob("*.js")), ids=lambda path: path.name)
def test_module_is_short_and_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("// ") and len(text.splitlines()) < 500
    assert node("--check", path).returncode == 0


class Recorded:
    """A ChunkPlayer that remembers what it was told and what it gave."""

    def __init__(self):
        self.player = ChunkPlayer(FPS, CHUNK)
        self.calls, self.gave = [], []

    def note(self, gave, *call):
        self.calls.append(call)
        self.gave.append(gave)
        return gave

    def put(self, chunk, now, tag, outcome=None):
        told = outcome and asdict(outcome)
        self.note(self.player.put(chunk, np.arange(CHUNK), now, tag, outcome), "put", chunk, CHUNK, now, tag, told)
        self.note([self.player.lead, self.player.late_chunks], "learnt")

    def look(self, now):
        shown = self.player.frame(now)
        score = shown and asdict(shown.score)
        found = shown and [int(shown.pixels), shown.chunk, shown.index, shown.is_new, shown.seq, *score.values()]
        self.note(found, "frame", now)
        wanted = self.note(self.player.wants_chunk(now), "wants", now)
        event = self.player.next_event(now)
        self.note("inf" if event == math.inf else event, "event", now)
        if wanted:
            self.note(self.player.asked(wanted, now), "asked", now)
        return wanted

    def reset(self, chunk, score):
        self.note(self.player.reset(chunk, score), "reset", chunk, asdict(score))


def came_to(rng, rate):
    """An outcome, or that there is none."""
    return None if rng.random() < 0.5 else Outcome(float(rng.integers(-2, 3)), bool(rng.random() < rate))


def played(seed, looks=3000):
    """Ragged round trips, lost and repeated chunks, stalls, games that end, and worlds that begin again."""
    rng, recorded = np.random.default_rng(seed), Recorded()
    now, arriving = 0.0, []
    recorded.put(0, now, 0)
    for look in range(looks):
        now += 2.0 if rng.random() < 0.002 else rng.uniform(0.0, 0.02)
        for arrival in [a for a in arriving if a[0] <= now]:
            arriving.remove(arrival)
            recorded.put(arrival[1], now, look, came_to(rng, 0.02))
        wanted = recorded.look(now)
        if wanted and rng.random() > 0.02:
            arriving.append((now + rng.gamma(2.0, 0.03), wanted))
            if rng.random() < 0.05:
                arriving.append((now + 0.5, wanted))
        if rng.random() < 0.003:
            arriving.clear()
            recorded.reset(int(rng.integers(0, 50)), Score(float(rng.integers(9)), bool(rng.random() < 0.1)))
            recorded.put(int(rng.integers(0, 60)), now, look, came_to(rng, 0.02))
    return recorded


@pytest.mark.parametrize("seed", range(4))
def test_the_player_of_the_page_does_what_the_player_of_the_bridge_does(seed):
    recorded = played(seed)
    told = json.dumps({"fps": FPS, "framesPerChunk": CHUNK, "calls": recorded.calls})
    ran = node(PAGE / "replay_player.mjs", input=told)
    assert ran.returncode == 0, ran.stderr
    gave = json.loads(ran.stdout)
    assert len(gave) == len(recorded.gave) > 9000
    for call, ours, theirs in zip(recorded.calls, recorded.gave, gave, strict=True):
        same = (
            ours == pytest.approx(theirs, abs=1e-9)
            if call[0] in ("event", "learnt") and ours != "inf"
            else ours == theirs
        )
        assert same, f"{call}: {ours} in Python, {theirs} on the page"
    assert sum(1 for g in recorded.gave if g is True) > 50
