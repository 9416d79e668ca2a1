"""What `helios-world eval` says of known pictures, curves and answers, and of a world that is the game."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from helios_world.card import WorldCard
from helios_world.checkpoint import save_weights
from helios_world.config import ProbeConfig
from helios_world.demos.cli import main
from helios_world.demos.scorecard import place, scorecard
from helios_world.errors import UserError
from helios_world.model.probe import Probe
from helios_world.pack import PROBE
from helios_world.testing import FAKE_CARD, FakeWorldModel
from helios_world.training import evaluation, tours
from helios_world.training.determinism import determinism
from helios_world.training.endurance import (
    LOOK,
    Watched,
    change,
    chunks_to_watch,
    dead_since,
    deaths,
    drift,
    watch,
    watch_real,
)
from helios_world.training.evaluation import Trajectories, compare, follow, half_time, held_out
from helios_world.training.probe_figures import (
    Reader,
    Readings,
    Told,
    balanced_accuracy,
    frechet_by_time,
    inverse_dynamics,
    load_reader,
    state_errors,
)
from helios_world.training.similarity import frechet, turned
from helios_world.training.tours import tours_in
from helios_world.training.walks import Explorer, walk

CARD = WorldCard.from_dict({**FAKE_CARD.to_dict(), "height": 128, "width": 160})
SMALL = ProbeConfig(("maze",), (100.0, 50.0, 10.0, 20.0), widths=(8, 8, 8, 8), hidden=16)


def gaussian(rng, mean, covariance, n=200):
    """Numbers with exactly this mean and covariance."""
    x = rng.standard_normal((n, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def made_up(trajectories=3, frames=28, scene="maze"):
    """Recordings of nothing: noise, and every number different."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (trajectories, frames, 128, 160, 3)).astype(np.uint8)
    actions = rng.integers(0, 2, (trajectories, frames, 7)).astype(np.float32)
    poses, stats = rng.uniform(0, 90, (trajectories, frames, 3)), rng.integers(0, 2, (trajectories, frames, 2))
    return Trajectories(pictures, actions, poses, np.zeros((trajectories, frames, 3)), stats.astype(np.float32), scene)


def test_frechet_of_two_gaussians():
    rng = np.random.default_rng(0)
    one, other = gaussian(rng, [1.0, 2.0], np.diag([4.0, 9.0])), gaussian(rng, [2.0, 4.0], np.diag([1.0, 16.0]))
    assert frechet(one, other) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 4) ** 2)
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)
    C, D = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.5], [-0.5, 3.0]])
    both = np.sqrt(np.linalg.eigvals(C @ D)).sum()
    one, other = gaussian(rng, [0.0, 0.0], C), gaussian(rng, [0.0, 3.0], D)
    assert frechet(one, other) == pytest.approx(9 + np.trace(C + D) - 2 * both)
    assert frechet(np.array([[3.0, 4.0]]), np.zeros((5, 2))) == pytest.approx(25), "one picture has no spread"


def test_half_time_of_a_curve():
    assert half_time([20.0, 18.0, 14.0, 12.0], worst=10.0, chunk_seconds=0.2) == pytest.approx(2.75 * 0.2)
    assert half_time([20.0, 19.0, 18.0], worst=10.0, chunk_seconds=0.2) is None
    assert half_time([9.0, 8.0], worst=10.0, chunk_seconds=0.2) is None, "it began no better than the mean"


def test_balanced_accuracy_of_a_rare_button():
    held = np.array([True] * 2 + [False] * 98)
    assert balanced_accuracy(np.zeros(100, bool), held) == 0.5
    assert balanced_accuracy(held, held) == 1.0
    half = held.copy()
    half[0], half[2:51] = False, True
    assert balanced_accuracy(half, held) == pytest.approx(0.5)
    assert balanced_accuracy(held, np.zeros(100, bool)) is None


def test_inverse_dynamics_beside_the_real_game():
    held = np.zeros((10, 4, 7), bool)
    held[:5, :, 4] = held[:2, :, 6] = True
    told = held.copy()
    told[:, :, 4] = False
    figures = inverse_dynamics({"": told, "real_": held}, held, ("turn_left", "turn_right", "attack"))
    assert figures["accuracy"] == {"turn_left": 0.5, "turn_right": 1.0, "attack": 1.0}
    assert figures["balanced_accuracy"] == {"turn_left": 0.5, "turn_right": None, "attack": 1.0}
    assert figures["overall"] == 0.75 and figures["real_overall"] == 1.0 and figures["to_real"] == 0.5
    assert figures["data_mean_accuracy"] == {"turn_left": 0.5, "turn_right": 1.0, "attack": 0.8}


def test_state_errors_of_known_answers():
    def told(heading, places, health, monster):
        n = len(heading)
        return Told(np.zeros((n, 4, 7)), np.array(places), np.array(heading), np.array(health), np.array(monster), None)

    poses = np.array([[[0.0, 0.0, 10.0], [3.0, 4.0, 350.0]]])
    stats = np.array([[[100.0, 1.0], [50.0, 0.0]]])
    right = told([10.0, -10.0], [(0, 0), (3, 4)], [100.0, 50.0], [True, False])
    wrong = told([190.0, 0.0], [(3, 4), (3, 4)], [90.0, 80.0], [True, True])
    figures = state_errors({"": [wrong], "real_": [right]}, poses, stats, [4], walks=True)
    assert figures["heading_deg"] == {"4": 95.0} and figures["real_heading_deg"] == {"4": 0.0}
    assert figures["position_map_units"] == {"4": 2.5} and figures["health"] == {"4": 20.0}
    assert figures["monster_accuracy"] == {"4": 0.5} and figures["real_monster_accuracy"] == {"4": 1.0}
    assert figures["data_mean_heading_deg"] == {"4": 10.0} and figures["data_mean_position_map_units"] == {"4": 2.5}
    assert figures["data_mean_health"] == {"4": 25.0}
    stats[..., 0] = 100.0
    fewer = state_errors({"": [wrong]}, poses, stats, [4], walks=False)
    assert set(fewer) == {f"{who}{name}" for who in ("", "data_mean_") for name in ("heading_deg", "monster_accuracy")}


def test_headings_are_near_around_the_circle():
    assert turned(np.array([359.0, -90.0, 10.0]), np.array([1.0, 270.0, 190.0])).tolist() == [2.0, 0.0, 180.0]


def test_rollouts_die_by_either_rule_and_not_for_a_moment():
    chunks, ones = 100, np.ones((5, 100))
    ratios = {name: ones.copy() for name in ("sharpness", "contrast", "change")}
    ratios["sharpness"][0, 60:] = 0.05  # collapsed; the mean of the last four is under a tenth from chunk 64 on
    ratios["contrast"][1, 40:] = 0.2  # faded, but it moves
    ratios["contrast"][2, 40:] = ratios["change"][2, 40:] = 0.01  # stuck: of ten seconds, 40 chunks, nearly all is so
    ratios["sharpness"][3, 20:30] = 0.0  # a wall for a moment
    made = Watched(np.zeros(0), np.arange(1, chunks + 1), np.zeros((5, chunks)), ones, {})
    figures = deaths(made, ratios, chunk_seconds=0.25)
    assert [figures[f"{name}_rollouts"] for name in ("collapsed", "faded", "stuck")] == [1, 2, 1]
    assert figures["rollouts"] == 5 and figures["time_to_collapse_s"]["median"] is None
    assert figures["time_to_collapse_s"]["first"] == pytest.approx(16.0, abs=0.1)
    ratios["sharpness"][[1, 3]] = 0.0
    assert deaths(made, ratios, 0.25)["time_to_collapse_s"] == {"first": 0.2, "median": 16.0}


def test_dead_since_the_last_sign_of_life():
    assert dead_since(np.array([True, False, True, True])) == 2
    assert dead_since(np.array([True, True])) == 0 and dead_since(np.array([True, False])) is None


def test_of_long_rollouts_a_part_is_kept():
    assert chunks_to_watch(20, [4], last=3, frame_bytes=1).tolist() == list(range(1, 21))
    ends = chunks_to_watch(15750, [44, 15750], last=44, frame_bytes=64 * 61440)
    assert len(ends) < 700 and {44 - LOOK + 1, 44, 15750 - 43, 15750} <= set(ends.tolist())
    assert np.diff(ends).max() <= 30


def test_change_is_of_consecutive_frames():
    window = np.zeros((2, 5, 4, 4, 3), np.uint8)
    window[1] = np.array([0, 10, 10, 4, 0], np.uint8)[:, None, None, None]
    assert change(window).tolist() == [0.0, 5.0]


def test_what_is_shown_for_ever_has_the_look_of_a_picture():
    real, still = made_up(2, 12), made_up(2, 12)
    still.frames[:] = 40
    parts = [Watched(p.frames[:, 0], np.arange(1, 13), p.frames, np.full((2, 12), 3.0), {}) for p in (still, real)]
    figures = drift(*parts, chunk_seconds=1.0, seconds=(1, 10, 60))
    assert figures["contrast_to_real"] == figures["sharpness_to_real"] == {"1_s": 0.0, "10_s": 0.0}
    assert figures["change_to_real"]["10_s"] == 1.0 and figures["copy_last_change_to_real"] == 0.0
    assert figures["copy_last_contrast_to_real"] == 0.0 and figures["data_mean_brightness_to_real"] == 1.0
    assert figures["collapsed_rollouts"] == 2 and figures["time_to_collapse_s"]["first"] == 1.0


class Spy(FakeWorldModel):
    """Notes the actions that it is told."""

    def __init__(self):
        super().__init__(CARD)
        self.told, self.unseen = [], 0

    def step(self, states, actions, contexts=None):
        self.told.append(actions.copy())
        return super().step(states, actions, contexts)

    def advance(self, states, actions):
        self.unseen += 1
        return super().step(states, actions)[0]


def test_actions_come_once_more_at_their_end():
    real, world = made_up(2, 20), Spy()
    rollout = follow(world, real, 2, real.actions, seed=0)
    assert next(rollout).shape == (2, 4, 128, 160, 3)
    for _ in range(4):
        next(rollout)
    assert len(real.actions[0]) // 4 - 2 == 3
    wanted = [real.actions[:, low : low + 4] for low in (8, 12, 16, 8, 12)]
    assert all(np.array_equal(*pair) for pair in zip(world.told, wanted, strict=True))


def test_what_is_watched_is_what_is_played():
    real, seen = made_up(2, 28), []

    def features(window):
        seen.append(window)
        return np.full((2, 1), float(window[0, -1, 0, 0, 0]))

    ends = np.array([2, 4, 5])
    spy = Spy()
    made = watch(spy, real, 2, ends, 0, features, times=[5])
    assert len(spy.told) == 5 and spy.unseen == 0, "each of the five is looked at, or comes before one that is"
    watch(spy := Spy(), real, 2, np.array([4]), 0)
    assert len(spy.told) == 2 and spy.unseen == 2, "chunks 1 and 2 need not be decoded"
    frames = evaluation.predict(Spy(), real, 2, 5, real.actions, 0)
    assert np.array_equal(made.frames, frames[:, [1, 3, 4], -1]) and made.ends is ends
    assert list(made.features) == [2, 4, 5], "what is not watched has no features"
    assert np.array_equal(seen[1], np.concatenate([frames[:, 2, -1:], frames[:, 3]], axis=1))
    assert np.array_equal(made.before, real.frames[:, 7])
    played = watch_real(real, 2, 4)
    assert np.array_equal(played.frames, real.frames[:, 11::4]) and played.ends.tolist() == [1, 2, 3, 4, 5]


def test_a_world_that_is_the_game_is_as_like_as_can_be(monkeypatch):
    real = made_up(2, 28)

    def replay(generator, real, context, actions, seed):
        yield from (real.frames[:, low : low + 4] for low in range(4 * context, 28, 4))

    monkeypatch.setattr(evaluation, "follow", replay)
    windows = {}
    figures = compare(FakeWorldModel(CARD), real, 2, 5, 0, [windows.__setitem__])
    assert figures["psnr_db"] == {"1": 78.13, "2": 78.13, "4": 78.13} and figures["ssim"]["4"] == 1.0
    assert figures["t50_s"] is None and figures["ssim_mean_frame"]["1"] < 0.5 and figures["psnr_autoencoder_db"] > 50
    assert list(windows) == [1, 2, 3, 4, 5] and np.array_equal(windows[3], real.frames[:, 15:20])


def answers(frames):
    """Told by a probe that reads the first pixel of the last frame."""
    n, value = len(frames), frames[:, -1, 0, 0, 0].astype(float)
    return Told(np.zeros((n, 4, 7), bool), np.zeros((n, 2)), value, value, value > 9, value[:, None])


def test_readings_are_of_the_chunk_that_was_watched():
    real, reader = made_up(3, 28), SimpleNamespace(read=answers, features=lambda w: answers(w).features, window=5)
    readings = Readings(reader, real, 2, 4)
    for k in range(1, 6):
        readings.watch(k, real.frames[:, 4 * k + 3 : 4 * k + 8])
    assert readings.reference[:, 0].tolist() == real.frames[:, 11:28:4, 0, 0, 0].T.flatten().tolist()
    figures = readings.figures()
    shares = figures["inverse_dynamics"]["accuracy"]
    assert shares["forward"] == pytest.approx(1 - real.actions[:, 8:28, 0].mean(), abs=1e-3)
    state = figures["state_probe"]
    assert set(state["heading_deg"]) == {"1", "4"} and state["heading_deg"] == state["real_heading_deg"]
    wanted = turned(real.frames[:, 11, 0, 0, 0].astype(float), real.poses[:, 11, 2]).mean()
    assert state["heading_deg"]["1"] == pytest.approx(wanted, abs=1e-3)
    still = turned(real.frames[:, 7, 0, 0, 0].astype(float), real.poses[:, 23, 2]).mean()
    assert state["copy_last_heading_deg"]["4"] == pytest.approx(still, abs=1e-3)


def test_frechet_by_time_has_a_floor_beyond_the_real_games():
    reader = SimpleNamespace(features=lambda windows: answers(windows).features, window=5)
    frames = np.zeros((2, 12, 128, 160, 3), np.uint8)
    features = {k: np.array([[float(k)], [k + 1.0]]) for k in range(1, 13)}
    made = Watched(frames[:, 0], np.arange(1, 13), frames, np.zeros((2, 12)), features)
    real = Watched(frames[:, 0], np.arange(1, 5), frames[:, :4], np.zeros((2, 4)), {k: features[k] for k in (3, 4)})
    reference = np.array([[3.0], [4.0], [4.0], [5.0]])
    figures = frechet_by_time(reader, made, real, reference, {})
    assert figures["frechet"] == {}
    figures = frechet_by_time(reader, made, Watched(*vars_of(real), features), reference, {1: 4, 3: 12})
    assert figures["frechet"]["3_s"] > figures["frechet"]["1_s"] == figures["real_frechet"]["1_s"]
    figures = frechet_by_time(
        reader, made, Watched(*vars_of(real), {k: features[k] for k in range(1, 5)}), reference, {1: 4, 3: 12}
    )
    assert figures["real_frechet"]["3_s"] == figures["real_frechet"]["1_s"]
    assert figures["copy_last_frechet"]["1_s"] == pytest.approx(16 + 2 / 3, abs=1e-3)


def vars_of(watched):
    return watched.before, watched.ends, watched.frames, watched.changes


def test_a_reader_speaks_in_units_of_the_game():
    probe = Probe(SMALL)
    torch.nn.init.zeros_(probe.heads.weight)
    with torch.no_grad():
        probe.heads.bias.copy_(torch.tensor([1.0] + [-1.0] * 27 + [1.0, -0.5, 0.0, 2.0, 0.25, -3.0, 0.0]))
    told = Reader(probe, "maze").read(np.zeros((70, 5, 128, 160, 3), np.uint8))
    assert told.held.shape == (70, 4, 7) and told.held[0].flatten().tolist() == [True] + [False] * 27
    assert told.place[69].tolist() == [110.0, 40.0] and told.heading[0] == pytest.approx(90.0)
    assert told.health[0] == 25.0 and not told.monster.any() and told.features.shape == (70, 64)


def test_the_same_seed_makes_the_same_frames():
    figures = determinism(FakeWorldModel(), "maze", 3)
    assert figures["repeats"] and len(figures["sha256"]) == 16
    assert determinism(FakeWorldModel(), "maze", 4)["sha256"] != figures["sha256"]

    class Restless(FakeWorldModel):
        def step(self, states, actions, contexts=None):
            states, frames = super().step(states, actions, contexts)
            return states, frames + np.random.default_rng().integers(0, 9, frames.shape).astype(np.uint8)

    assert not determinism(Restless(), "maze", 3)["repeats"]


def test_games_of_the_arena_end_and_others_follow(monkeypatch):
    monkeypatch.setattr(evaluation, "TRIES", 1)
    with pytest.raises(UserError, match="0 of 2 games of arena lasted 3000 frames: ask for less"):
        held_out("arena", 1, 3000, 5)
    real = held_out("arena", 1, 900, 5, least=60)
    assert real.frames.shape[:2] == (1, 900) and real.scene == "arena"
    assert real.outcomes[0, :, 2].any(), "a game ended in between"


def test_only_where_one_walks_does_one_walk_back():
    assert tours_in("maze") == ["full_turn", "out_and_back"] and tours_in("arena") == ["full_turn"]


def test_the_arena_is_left_and_come_back_to_and_turned_both_ways(monkeypatch):
    def replay(generator, real, context, chunks, actions, seed):
        frames = real.frames[:, tours.CHUNK * context :]
        return frames.reshape(len(frames), chunks, tours.CHUNK, *frames.shape[2:])

    answers = iter([1.0, 1.0, 1.0, -1.0])  # of left and right: generated, real

    def turning(windows):
        assert windows.shape == (3, 5, 128, 160, 3)
        return SimpleNamespace(turns=np.array([next(answers), 0.5, 0.0]) * [1, 1, 0])

    monkeypatch.setattr(tours, "predict", replay)
    world = SimpleNamespace(history_length=5)
    figures = tours.revisit(world, "arena", "full_turn", 3, seed=6)
    assert figures["games"] == 3, "however far one is pushed"
    assert figures["psnr_db"] == figures["real_psnr_db"] and figures["halfway_ssim"] == figures["real_halfway_ssim"]
    both = tours.counterfactual(world, "arena", 3, 6, SimpleNamespace(read=turning))
    assert (both["probe_agreement"], both["real_probe_agreement"]) == (0.0, 0.333), "what is equal does not agree"


def test_the_same_rules_walk_the_game_and_the_world():
    """A world that is the game is walked as the game is: the same buttons for the same pictures, chunk by chunk."""
    player = Explorer(np.random.default_rng((7, 0)), 4)
    game = held_out("maze", 1, 40, 0, lambda rng: player)
    steps = game.actions[0, 1:37].reshape(9, 4, -1)
    assert (steps == steps[:, :1]).all(), "buttons are held for a chunk"
    seen, world = [], FakeWorldModel(CARD)
    world.reset = lambda scene, seed, start: (0, start.video)

    def step(states, actions):
        seen.append(actions[0, 0])
        k = len(seen)
        return states, game.frames[:, 4 * k - 3 : 4 * k + 1]

    world.step = step
    walked = walk(world, "maze", np.repeat(game.frames[:, :1], 4, axis=1), 7)
    for _ in range(9):
        next(walked)
    np.testing.assert_array_equal(seen, steps[:, 0])


def test_turns_are_left_less_right():
    logits = np.zeros((2, 4, 7))
    logits[0, :2, 4], logits[1, :, 5] = 3.0, 1.0
    assert Told(logits, *[None] * 5).turns.tolist() == [1.5, -1.0]


def test_a_scorecard_has_a_column_for_whoever_the_figure_is_of():
    assert place("psnr_copy_last_db.8") == ("psnr_db.8", "last frame repeated")
    assert place("revisit.full_turn.real_halfway_psnr_db") == ("revisit.full_turn.halfway_psnr_db", "real game")
    assert place("sharpness_to_real.10_s") == ("sharpness_to_real.10_s", "world")
    values = {
        "psnr_db": {"1": 25.061, "8": 19.0},
        "psnr_copy_last_db": {"1": 20.9, "8": 15.5},
        "psnr_mean_frame_db": 15.8,
    }
    values |= {"copy_last_change_to_real": 0.0, "change_to_real": {"10_s": 0.5}, "t50_s": None, "scene": "maze"}
    values |= {"machine": {"cpu": "abacus"}, "versions": {}, "commit": "c0ffee", "command": "eval", "seed": 7}
    lines = scorecard(values).splitlines()
    assert lines[0] == "| figure | world | real game | last frame repeated | data mean |"
    assert lines[2:6] == [
        "| `psnr_db.1` | 25.06 |  | 20.90 | 15.80 |",
        "| `psnr_db.8` | 19.00 |  | 15.50 | 15.80 |",
        "| `change_to_real.10_s` | 0.50 |  | 0 |  |",
        "| `t50_s` |  |  |  |  |",
    ]
    assert lines[-2:] == ["- scene maze", "- abacus; `eval`, seed 7, commit c0ffee"]


def test_a_world_without_a_probe_says_what_is_left_out(tiny_pack, capsys):
    assert load_reader(str(tiny_pack), "maze", torch.device("cpu")) is None
    error = capsys.readouterr().err
    assert "has no probe for maze: inverse dynamics, state and Frechet are left out" in error and error.count("\n") == 1


def test_an_unknown_scene_is_a_mistake_in_one_line(tiny_pack, capsys):
    assert main(["eval", "--world", str(tiny_pack), "--scene", "moon"]) == 2
    assert "unknown scene 'moon': choose from maze" in capsys.readouterr().err


def test_eval_with_a_probe_draws_and_lists_all_of_it(tiny_pack_copy, tmp_path, capsys):
    values = json.loads((tiny_pack_copy / "world.json").read_text())
    (tiny_pack_copy / "world.json").write_text(json.dumps({**values, "probe": SMALL.to_dict()}))
    save_weights(tiny_pack_copy / PROBE, Probe(SMALL).state_dict(), int8=True)
    plot, table = tmp_path / "plot.png", tmp_path / "figures" / "table.md"
    words = ["eval", "--world", str(tiny_pack_copy), "--trajectories", "2", "--chunks", "1", "--rollouts", "1"]
    words += ["--tours", "1", "--seconds", "1", "--contrast", "0.5", "--dtype", "float32", "--json"]
    assert main([*words, "--plot", str(plot), "--markdown", str(table)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [figures[name] for name in ("scene", "contrast", "device")] == ["maze", 0.5, "cpu"]
    assert figures["determinism"]["repeats"]
    assert set(figures["inverse_dynamics"]["balanced_accuracy"]) == set(figures["inverse_dynamics"]["real_accuracy"])
    assert set(figures["state_probe"]["real_heading_deg"]) == {"1"} and figures["real_frechet"]["1_s"] >= 0
    assert "health" not in figures["state_probe"], "nobody is hurt in the maze"
    assert Image.open(plot).size == (1300, 800)
    assert "| `inverse_dynamics.accuracy.forward` |" in table.read_text()
