"""`helios-world eval`: figures of a small world beside the real game, and what each measure says of known pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from helios_world.demos.cli import main
from helios_world.training.evaluation import drift, held_out, psnr


def test_eval_prints_one_object_and_draws_a_sheet(tiny_pack, tmp_path, capsys):
    words = ["eval", "--world", str(tiny_pack), "--trajectories", "2", "--chunks", "2", "--rollouts", "1"]
    sheet = tmp_path / "sheets" / "sheet.png"
    assert main([*words, "--seconds", "2", "--dtype", "float32", "--json", "--sheet", str(sheet)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures["psnr_db"]) == set(figures["psnr_copy_last_db"]) == {"1", "2"}
    assert 3 < figures["psnr_db"]["1"] < 60 and 3 < figures["psnr_shuffled_actions_db"] < 60
    assert figures["trajectories"] == 2 and figures["rollouts"] == 1
    assert set(figures["sharpness_to_real"]) == {"1_s"}
    assert {"machine", "versions", "commit", "command", "seed"} <= set(figures)
    assert Image.open(sheet).size[1] == 2 * 128, "a row of generated pictures over a row of real ones"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--trajectories", "0"], "trajectories is 0: must be at least 1"),
        (["--seconds", "0.5"], "seconds is 0.5: must be 1 to 3600"),
        (["--world", "atlantis"], "unknown world 'atlantis'"),
    ],
)
def test_mistakes_are_one_line(words, text, capsys):
    assert main(["eval", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error


def test_psnr_of_a_known_error():
    real = np.full((2, 3, 4, 4, 3), 100, np.uint8)
    made = real + np.array([10, 51], np.uint8)[:, None, None, None, None]
    assert psnr(made, real, (1, 2, 3, 4)) == pytest.approx([28.1308, 13.9794], abs=1e-3)


def test_drift_counts_what_collapsed_and_what_faded():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (2, 20, 16, 16, 3)).astype(np.uint8)
    made = real.copy()
    made[1, 10:] = 128
    figures = drift(made, real, chunk_seconds=0.25, seconds=(1, 5, 60))
    assert figures["collapsed_rollouts"] == 1 and figures["rollouts"] == 2
    assert figures["faded_rollouts"] == 0, "half of its last ten seconds was as it should be"
    assert figures["sharpness_to_real"]["1_s"] == pytest.approx(1.0, abs=0.1)
    assert figures["sharpness_to_real"]["5_s"] == pytest.approx(0.5, abs=0.1)
    assert "60_s" not in figures["sharpness_to_real"]
    made[1, 10:] = 128 + 20 * (np.arange(16) % 2)[:, None]  # stripes: sharp enough, but the picture is gone
    later = drift(made, real, chunk_seconds=1.0, seconds=(1,))
    assert (later["collapsed_rollouts"], later["faded_rollouts"]) == (0, 1)


def test_held_out_games_are_fixed_by_their_seed():
    one, same, other = (held_out("maze", 1, 12, seed) for seed in (4, 4, 5))
    assert np.array_equal(one.frames, same.frames) and np.array_equal(one.actions, same.actions)
    assert not np.array_equal(one.frames, other.frames)
