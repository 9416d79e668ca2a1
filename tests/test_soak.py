"""The soak in a minute: a hundred clients come and go, some without a word, and leave nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak import Bounds, Plan, Soak, blocks_of_a_session, broken, line_through, percentiles, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="memory is read from /proc")

# A leak of 4 kB or of two objects for each session is over these. Ages are for a machine with other work.
BOUNDS = Bounds(growth_mb=2.0, growth_blocks=1000, session_blocks=200.0, age_ms_p99=2000.0)
GOOD = {
    "seconds": 3600.0,
    "complete": True,
    "clients": 100,
    "faults": {},
    "logged": 0,
    "memory_slope_mb_per_h": 0.2,
    "empty_growth_mb": 0.4,
    "empty_growth_blocks": 300,
    "session_blocks_max": 110.0,
    "empty_descriptors": [10, 10],
    "empty_threads": [5, 5],
    "empty_sessions": 0,
    "descriptors_max": 108,
    "threads_max": 5,
    "age_ms_p99": 20.0,
}


@pytest.mark.slow
def test_a_minute_of_coming_and_going_leaves_nothing():
    samples = []
    soak = Soak(Plan(seconds=60.0, lease=4.0), each=samples.append)
    soak.run()
    figures = soak.figures()
    print(json.dumps(figures))
    assert broken(figures, BOUNDS) == []
    visits = figures["visits"]
    assert min(visits[kind] for kind in ("player", "stepper", "starver", "stranger", "vanished", "resumed")) > 5
    assert figures["chunks"] > 2000 and figures["sessions_max"] > 80 and len(samples) > 50


def test_being_ended_prints_what_was_measured(tmp_path):
    path = tmp_path / "samples.jsonl"
    words = [sys.executable, "-m", "tests.soak", "--clients", "5", "--samples", str(path), "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parent.parent) as process:
        wait_until(lambda: path.exists() and len(path.read_text().splitlines()) > 1, 60.0)
        process.send_signal(signal.SIGTERM)
        figures = json.loads(process.communicate(timeout=20)[0])
    assert process.returncode == 1
    assert not figures["complete"] and figures["chunks"] > 0 and broken(figures)[-1] == "it was ended before its time"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"faults": {"frames of another world": 2}}, "2 times: frames of another world"),
        ({"logged": 1}, "the server logged a warning"),
        ({"memory_slope_mb_per_h": 1.1}, "memory grows"),
        ({"empty_growth_mb": 2.1}, "memory grew from ebb to ebb"),
        ({"empty_growth_blocks": 1001}, "objects grew from ebb to ebb"),
        ({"session_blocks_max": 251.0}, "more objects than the sessions need"),
        ({"empty_descriptors": [10, 11]}, "descriptors are left"),
        ({"descriptors_max": 121}, "more descriptors than connections"),
        ({"threads_max": 6}, "threads changed"),
        ({"empty_sessions": 1}, "sessions are left"),
        ({"age_ms_p99": 2001.0}, "frames are old"),
        ({"seconds": 60.0, "memory_slope_mb_per_h": 900.0}, None),
        ({}, None),
    ],
    ids=str,
)
def test_a_broken_promise_is_said(changes, words):
    assert broken({**GOOD, **changes}, BOUNDS) == ([] if words is None else [words])


def test_the_slope_is_that_of_the_line_and_its_error_that_of_the_noise():
    hours = [second / 3600 for second in range(0, 3600, 5)]
    assert line_through(hours, [50.0 + 2.0 * hour for hour in hours]) == (2.0, 0.0)
    slope, error = line_through(hours, [50.0 + (-1) ** i for i in range(len(hours))])
    assert abs(slope) < error < 0.2
    assert line_through(hours[:2], [1.0, 2.0]) == (None, None)


def test_percentiles_are_in_milliseconds_and_none_of_nothing():
    assert percentiles("age_ms", [0.01] * 99 + [0.5]) == {"age_ms_p50": 10.0, "age_ms_p99": 14.9, "age_ms_max": 500.0}
    assert set(percentiles("age_ms", []).values()) == {None}


def test_the_page_names_tests_that_exist(pytestconfig):
    root = pytestconfig.rootpath
    named = re.findall(r"`(tests/test_\w+\.py)(?:::(\w+))?`", (root / "docs" / "reliability.md").read_text())
    assert len(named) > 30
    for path, test in named:
        assert f"def {test}" in (root / path).read_text(encoding="utf-8"), f"{path}::{test}"


def test_what_a_session_takes_is_looked_for_while_there_are_many():
    samples = [{"sessions": 1, "blocks": 900}, {"sessions": 10, "blocks": 1100}, {"sessions": 8, "blocks": 1000}]
    assert blocks_of_a_session([{"blocks": 100}], samples) == 112.5
    assert blocks_of_a_session([], samples) is None and blocks_of_a_session([{"blocks": 100}], []) is None
