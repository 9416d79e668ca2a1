"""A world of several scenes: what is recorded of each game, data sets side by side, a network that is told which."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helios_world.checkpoint import load_weights, save_weights
from helios_world.config import TINY
from helios_world.demos.cli import main
from helios_world.errors import PackError, UserError
from helios_world.generator import load_generator
from helios_world.model.dit import VideoDiT, initialise
from helios_world.training.collect import play
from helios_world.training.data import WindowSource, load_recordings
from helios_world.training.export import BEGUN, beginnings, encode_starts
from helios_world.training.game import BUTTONS, Game, View
from helios_world.training.gunner import Gunner
from helios_world.training.stages import start_from_pack

CPU = torch.device("cpu")


def test_the_arena_rewards_kills_and_ends_with_death(data_sets):
    recording = load_recordings(data_sets[1:], CPU)
    rewards, last, over = recording.outcomes.T
    health, seen = recording.stats.T
    assert set(rewards.unique().tolist()) <= {0.0, 1.0, 2.0} and rewards.sum() > 3
    assert over.sum() >= 1 and not last.any(), "death itself costs nothing"
    assert health[over.bool()].max() < 100 and 0 < float(seen.mean()) < 1
    ends = over.nonzero()[:, 0]
    ends = ends[ends + 1 < len(over)]
    assert (recording.first[ends + 1] == ends + 1).all(), "after the end another game begins"


def test_in_the_arena_feet_do_nothing():
    game = Game("arena", 1)
    game.reset()
    forward = np.eye(len(BUTTONS), dtype=np.uint8)[BUTTONS.index("forward")]
    poses = [game.step(forward).pose for _ in range(8)]
    turned = game.step(np.eye(len(BUTTONS), dtype=np.uint8)[BUTTONS.index("turn_left")]).pose
    game.close()
    assert poses[0] == poses[-1] and turned[2] != poses[-1][2]


def test_the_gunner_kills_and_holds_every_button():
    game = Game("arena", 2)
    rows = list(play(game, Gunner(np.random.default_rng(0)), 1500))
    game.close()
    assert (np.sum([row.actions for row in rows], axis=0) > 5).all()
    assert sum(row.outcomes[0] for row in rows) > 20


@pytest.mark.parametrize(("target", "wanted"), [(-30.0, "turn_left"), (30.0, "turn_right"), (2.0, "attack")])
def test_the_gunner_turns_to_its_target(target, wanted):
    gunner = Gunner(np.random.default_rng(0))
    view = View(np.zeros((128, 160, 3), np.uint8), (0.0, 0.0, 0.0), (9.0, 9.0, 9.0), target=target)
    assert [name for name, held in zip(BUTTONS, gunner._aim(view), strict=True) if held] == [wanted]


def test_data_sets_lie_side_by_side_and_windows_tell_the_scene(data_sets):
    recording = load_recordings(data_sets, CPU)
    assert recording.scenes == ("maze", "arena") and recording.scene.tolist() == [0] * 300 + [1] * 1600
    assert recording.first.max() < 1900 and (recording.first <= torch.arange(1900)).all()
    assert recording.scene_dim == 2 and load_recordings(data_sets[:1], CPU).scene_dim == 0
    source = WindowSource(torch.zeros(1900, 1, 1, 1), recording, history=19, chunk=4)
    window = source.draw(torch.tensor([100, 700]), torch.Generator().manual_seed(0))
    assert window.actions.shape == (2, 1, 30)
    assert window.actions[:, 0, 28:].tolist() == [[1, 0], [0, 1]]


def test_two_data_sets_of_one_scene_are_refused(data_sets):
    with pytest.raises(UserError, match="maze, maze: give one for each scene"):
        load_recordings([data_sets[0], data_sets[0]], CPU)


def test_a_network_that_learns_another_scene_begins_as_it_was(tmp_path):
    known, more = VideoDiT(TINY), VideoDiT(replace(TINY, scene_dim=2))
    generator = torch.Generator().manual_seed(0)
    initialise(known, generator)
    for zero_at_first in (known.proj_out, known.condition_embedder.action_embedder.linear_2):
        torch.nn.init.normal_(zero_at_first.weight, std=0.1, generator=generator)
    path = tmp_path / "transformer.safetensors"
    save_weights(path, known.state_dict())
    start_from_pack(more, path)
    embed, wider = (m.condition_embedder.action_embedder for m in (known, more))
    actions = torch.randn(5, 28, generator=generator)
    torch.testing.assert_close(wider(torch.cat([actions, torch.ones(5, 2)], dim=1)), embed(actions))
    save_weights(path, more.state_dict())
    with pytest.raises(PackError, match=r"linear_1.weight is \(32, 30\): must be \(32, 28\)"):
        start_from_pack(known, path)


def test_a_world_of_two_scenes_is_trained_and_played(data_sets, tmp_path):
    both, run, pack = list(map(str, data_sets)), str(tmp_path / "run"), tmp_path / "pack"
    words = ["train", "--data", *both, "--run", run, "--preset", "tiny", "--device", "cpu", "--batch", "4"]
    words += ["--rollout-batch", "2", "--autoencoder-iterations", "2", "--autoencoder-batch", "4", "--iterations", "3"]
    assert main(words) == 0
    assert main(["export", "--run", run, "--data", *both, "--starts", "2", "--out", str(pack)]) == 0
    weights = load_weights(pack / "transformer.safetensors")
    with torch.no_grad():  # a step or two of training leaves the last layer all but zero
        for name in ("proj_out.weight", "condition_embedder.action_embedder.linear_2.weight"):
            weights[name] = torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(1))
    save_weights(pack / "transformer.safetensors", weights)
    generator = load_generator(str(pack), dtype="float32")
    assert generator.card.scenes == ("maze", "arena")
    actions = np.zeros((2, 4, 7), np.float32)
    state, _ = generator.reset("arena", seed=0)
    elsewhere = replace(state, scene="maze")
    held = generator.conditions(actions, [state, elsewhere])
    assert held[:, 0, 28:].tolist() == [[0, 1], [1, 0]]
    _, frames = generator.step([state, elsewhere], actions)
    assert not np.array_equal(frames[0], frames[1]), "the scene it is told makes a difference"


def test_a_run_needs_a_data_set_of_each_of_its_scenes(data_sets, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "--data", *map(str, data_sets), "--run", str(run), "--preset", "tiny", "--device", "cpu"]
    words += ["--rollout-batch", "0", "--batch", "2", "--autoencoder-iterations", "1", "--autoencoder-batch", "2"]
    assert main([*words, "--iterations", "1"]) == 0
    assert main(["export", "--run", str(run), "--data", str(data_sets[0]), "--out", str(tmp_path / "pack")]) == 2
    assert "the run needs one of each of maze, arena" in capsys.readouterr().err


def test_starts_of_the_arena_are_its_beginnings(data_sets):
    from helios_world.config import TINY_AUTOENCODER
    from helios_world.model.vae import VideoVAE

    recording = load_recordings(data_sets[1:], CPU)
    ends = beginnings(recording, 4, 19, 5, seed=0)
    assert len(ends) == 5 and all(end - int(recording.first[end]) == 4 * BEGUN - 1 for end in ends)
    starts = encode_starts(VideoVAE(TINY_AUTOENCODER).eval(), recording, ends, 19)
    assert starts.shape == (5, 16, 19, 16, 20)
    assert not starts[:, :, :-BEGUN].any() and starts[:, :, -BEGUN:].any(dim=(1, 3, 4)).all()
