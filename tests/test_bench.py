"""`helios-world bench play`: the figures are there, true to the fake world, and printed as one JSON object."""

import json

import pytest

from helios_world.bridge.process import ServerProcess
from helios_world.bridge.stream import WorldStream
from helios_world.demos import bench
from helios_world.demos.cli import main
from helios_world.demos.link import Link
from helios_world.demos.report import print_report, report
from helios_world.testing import FAKE_CARD


def test_presses_are_fixed_by_the_seed_and_every_key_comes_up_again():
    def play(seed):
        presses = bench.Presses(["w", "left"], seed, 0.0)
        return [event for turn in range(1, 2000) for event in presses.until(turn * 0.01)]

    events = play(1)
    assert events == play(1) != play(2)
    assert [when for _, _, when in events] == sorted(when for _, _, when in events)
    for name in ("w", "left"):
        downs = [down for key, down, _ in events if key == name]
        assert len(downs) > 10
        assert all(down == (index % 2 == 0) for index, down in enumerate(downs)), "down and up must alternate"


def test_the_figures_of_a_short_game(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    link = Link(WorldStream, scene=None, seed=0, server=ServerProcess(["--fake"]), card=FAKE_CARD)
    try:
        figures = bench.play_and_measure(link, 5.0, 0)
    finally:
        link.close()
    assert not link.server.alive
    assert figures["fps"] == pytest.approx(17.5, rel=0.1)
    assert 40 < figures["chunk_ms_p50"] < 90, "the fake world takes 45 ms for a chunk"
    assert figures["presses"] > 3
    # A key waits for the chunk after the one asked for: at least the generation, at most that and a chunk.
    assert 40 < figures["key_to_pixels_ms_p50"] <= figures["key_to_pixels_ms_p95"] < 600
    assert figures["cold_start_s"] > 0


def test_a_report_is_one_json_object_that_says_where_it_comes_from(capsys):
    print_report(report("helios-world bench play", 3, fps=17.5), as_json=True)
    out = capsys.readouterr().out
    values = json.loads(out)
    assert out.count("\n") == 1
    assert set(values) == {"fps", "machine", "versions", "commit", "command", "seed"}
    assert values["machine"]["cpus"] >= 1
    assert values["versions"]["python"].startswith("3.")
    print_report(values, as_json=False)
    assert "17.50" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--seconds", "0"], "seconds is 0: must be more than 0"),
        (["--seconds", "inf"], "seconds is inf"),
        (["--seed", "-3"], "seed is -3: must be 0 or more"),
        (["--world", "moon"], "unknown world 'moon'"),
    ],
)
def test_what_is_not_allowed_is_one_line(capsys, words, complaint):
    assert main(["bench", "play", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and complaint in captured.err
