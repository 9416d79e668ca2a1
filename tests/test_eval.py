"""`helios-world eval`: figures of a small world beside the real game, and what each measure says of known pictures."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from helios_world.demos import plots, runs
from helios_world.demos.cli import main
from helios_world.errors import UserError
from helios_world.training import tours
from helios_world.training.endurance import Watched, drift
from helios_world.training.evaluation import held_out
from helios_world.training.similarity import psnr, ssim


def test_eval_prints_one_object_and_draws_a_sheet(tiny_pack, tmp_path, capsys):
    words = ["eval", "--world", str(tiny_pack), "--trajectories", "2", "--chunks", "2", "--rollouts", "1"]
    words += ["--tours", "1", "--games", "3", "--context", "3"]
    sheet, plot, film = tmp_path / "sheets" / "sheet.png", tmp_path / "plot.png", tmp_path / "film.gif"
    pictures = ["--sheet", str(sheet), "--plot", str(plot), "--film", str(film)]
    assert main([*words, "--seconds", "2", "--dtype", "float32", "--json", *pictures]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures["psnr_db"]) == set(figures["psnr_copy_last_db"]) == {"1", "2"}
    assert 3 < figures["psnr_db"]["1"] < 60 and 3 < figures["psnr_shuffled_actions_db"] < 60
    assert figures["trajectories"] == 2 and figures["rollouts"] == 1
    assert set(figures["sharpness_to_real"]) == {"1_s"}
    assert {"machine", "versions", "commit", "command", "seed"} <= set(figures)
    assert -1 <= figures["ssim"]["1"] <= 1 and 3 < figures["psnr_mean_frame_db"] < 60
    assert figures["revisit"]["full_turn"]["games"] == 1 and figures["revisit"]["full_turn"]["real_psnr_db"] > 25
    assert set(figures["walks"]["contrast_to_real"]) == {"1_s"} and figures["walks"]["rollouts"] == 1
    assert {"agreement", "real_agreement", "delay_frames", "real_delay_frames", "games"} == set(
        figures["counterfactual"]
    )
    assert "--tours 1 --games 3 " in figures["command"] and figures["command"].endswith(" --context 3")
    assert Image.open(plot).size == (1300, 400) and np.asarray(Image.open(plot)).std() > 5
    assert Image.open(sheet).size[1] == 2 * 128, "a row of generated pictures over a row of real ones"
    with Image.open(film) as moving:
        assert (moving.n_frames, moving.size) == (4, (2 * 160, 2 * 128)), "two chunks of two games, every second frame"
        assert moving.info["duration"] == 110, "in hundredths of a second"


def test_runs_are_drawn_side_by_side(tmp_path, capsys):
    results = Path(__file__).parents[1] / "docs" / "results"
    one, two, out = results / "doom-bf16.json", tmp_path / "ablation-plain.json", tmp_path / "pictures" / "runs.png"
    two.write_bytes((results / "arena-xeon2.json").read_bytes())
    assert runs.main([str(one), str(two), "--out", str(out)]) == 0
    assert Image.open(out).size == (1300, 400) and np.asarray(Image.open(out)).std() > 5
    unjudged = json.loads(one.read_text(encoding="utf-8"))
    del unjudged["frechet"]
    two.write_text(json.dumps(unjudged), encoding="utf-8")
    with pytest.raises(UserError, match="ablation-plain has no frechet: it needs a probe"):
        runs.main([str(two), "--out", str(out)])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--trajectories", "0"], "trajectories is 0: must be at least 1"),
        (["--seconds", "0.5"], "seconds is 0.5: must be 1 to 3600"),
        (["--tours", "0"], "tours is 0: must be at least 1"),
        (["--games", "0"], "games is 0: must be at least 1"),
        (["--context", "0"], "context is 0: must be at least 1"),
        (["--film", "film.mp4"], "film is film.mp4: the name must end in .gif"),
        (["--world", "atlantis"], "unknown world 'atlantis'"),
    ],
)
def test_mistakes_are_one_line(words, text, capsys):
    assert main(["eval", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error


def test_a_plot_that_cannot_be_drawn_is_said_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert main(["eval", "--plot", str(tmp_path / "plot.png")]) == 2
    assert capsys.readouterr().err.strip().endswith("pip install 'helios-world[plots]'")


def test_psnr_of_a_known_error():
    real = np.full((2, 3, 4, 4, 3), 100, np.uint8)
    made = real + np.array([10, 51], np.uint8)[:, None, None, None, None]
    assert psnr(made, real, (1, 2, 3, 4)) == pytest.approx([28.1308, 13.9794], abs=1e-3)


def watched(frames, changes=None):
    """Every chunk of rollouts, with a frame of each and how much it changed."""
    changes = np.ones(frames.shape[:2], np.float32) if changes is None else changes
    return Watched(frames[:, 0], np.arange(1, frames.shape[1] + 1), frames, changes, {})


def test_drift_counts_what_collapsed_and_what_faded():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (2, 20, 16, 16, 3)).astype(np.uint8)
    made = real.copy()
    made[1, 10:] = 128
    figures = drift(watched(made), watched(real), chunk_seconds=0.25, seconds=(1, 5, 60))
    assert figures["collapsed_rollouts"] == 1 and figures["rollouts"] == 2
    assert figures["faded_rollouts"] == 0, "half of its last ten seconds was as it should be"
    assert figures["sharpness_to_real"]["1_s"] == pytest.approx(1.0, abs=0.1)
    assert figures["sharpness_to_real"]["5_s"] == pytest.approx(0.5, abs=0.1)
    assert "60_s" not in figures["sharpness_to_real"]
    made[1, 10:] = 128 + 20 * (np.arange(16) % 2)[:, None]  # stripes: sharp enough, but the picture is gone
    later = drift(watched(made), watched(real), chunk_seconds=1.0, seconds=(1,))
    assert (later["collapsed_rollouts"], later["faded_rollouts"]) == (0, 1)
    assert (later["real_collapsed_rollouts"], later["real_faded_rollouts"]) == (0, 0)
    real[0, 10:] = 128  # a plain wall, in the real game
    walled = drift(watched(made), watched(real), chunk_seconds=1.0, seconds=(1,))
    assert (walled["real_collapsed_rollouts"], walled["real_faded_rollouts"], walled["rollouts"]) == (1, 1, 2)


def test_held_out_games_are_fixed_by_their_seed():
    one, same, other = (held_out("maze", 1, 12, seed) for seed in (4, 4, 5))
    assert np.array_equal(one.frames, same.frames) and np.array_equal(one.actions, same.actions)
    assert not np.array_equal(one.frames, other.frames)


def test_ssim_of_alike_and_unlike_pictures():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (2, 20, 24, 3)).astype(np.uint8)
    assert ssim(real, real) == pytest.approx([1.0, 1.0])
    assert ssim(255 - real, real).max() < -0.8
    x, y = (picture.mean(-1) for picture in (real[0], np.roll(real[0], 1, 0)))
    values = []
    for i in range(20 - 6):
        for j in range(24 - 6):
            a, b = (picture[i : i + 7, j : j + 7].ravel() for picture in (x, y))
            (va, vab), (_, vb) = np.cov(a, b)
            c1, c2 = 2.55**2, 7.65**2
            numerator = (2 * a.mean() * b.mean() + c1) * (2 * vab + c2)
            values.append(numerator / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (va + vb + c2)))
    assert ssim(real[0], np.roll(real[0], 1, 0)) == pytest.approx(np.mean(values))


@pytest.mark.parametrize("pixels", [-17, 0, 1, 30])
def test_a_shift_is_found(pixels):
    before = np.random.default_rng(1).integers(0, 256, (1, 16, 160, 3)).astype(np.uint8)
    assert tours.shift(before, np.roll(before, pixels, 2)).tolist() == [pixels]


@pytest.mark.parametrize("name", tours.TOURS)
def test_a_tour_comes_back_in_the_real_game(name):
    rows = tours.tour(name)
    assert len(rows) % tours.CHUNK == 0
    real = tours.held_out("maze", 4, 40 + len(rows), 5, tours.tourists(10, rows))
    assert np.array_equal(real.actions[:, 40:], np.broadcast_to(rows, (4, *rows.shape)))
    assert not real.actions[:, 28:40].any(), "it stands still before it begins"
    assert tours.came_back(real.poses[:, 39], real.poses[:, -1]).any(), "unless a wall is in the way"


def test_a_world_that_is_the_game_revisits_as_the_game_does(monkeypatch):
    def replay(generator, real, context, chunks, actions, seed):
        frames = real.frames[:, tours.CHUNK * context :]
        return frames.reshape(len(frames), chunks, tours.CHUNK, *frames.shape[2:])

    monkeypatch.setattr(tours, "predict", replay)
    generator = SimpleNamespace(history_length=5)
    figures = tours.revisit(generator, "maze", "full_turn", 4, seed=6)
    assert figures["games"] >= 2 and figures["psnr_db"] == figures["real_psnr_db"] > 18
    assert figures["ssim"] == figures["real_ssim"] > 0.3
    both = tours.counterfactual(generator, "maze", 3, seed=6)
    assert both["agreement"] == both["real_agreement"] >= 2 / 3 and "probe_agreement" not in both
    assert both["delay_frames"] == both["real_delay_frames"] == 0


def test_a_delay_is_the_first_frame_that_shows_which_way_it_goes():
    assert tours.delay(np.array([[0, 1, 2, 9], [0, 0, 0, 3], [0, 0, 0, 0], [-5, 0, 2, 2]])) == 2.0
    assert tours.delay(np.zeros((3, 4))) is None


def test_poses_are_the_same_around_the_circle():
    left, returned = np.array([[0.0, 0.0, 0.5]] * 3), np.array([[3.0, 0.0, 359.9], [5.0, 0.0, 0.5], [0.0, 0.0, 2.0]])
    assert tours.came_back(left, returned).tolist() == [True, False, False]
