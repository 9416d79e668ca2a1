"""A world of several scenes: what is recorded of each game, data sets side by side, a network that is told which."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helios_world.checkpoint import load_weights, save_weights
from helios_world.config import TINY_AUTOENCODER
from helios_world.demos.cli import main
from helios_world.errors import UserError
from helios_world.generator import load_generator
from helios_world.model.vae import VideoVAE
from helios_world.training.collect import play
from helios_world.training.data import MappedFrames, WindowSource, draw_ends, encode_recording, load_recordings
from helios_world.training.export import BEGUN, beginnings, encode_starts
from helios_world.training.game import BUTTONS, Game, View, covered
from helios_world.training.gunner import MIDDLE, Gunner
from helios_world.training.ranks import Rank
from helios_world.training.stages import Batches

CPU = torch.device("cpu")
AIMED_AT = View(np.zeros((128, 160, 3), np.uint8), (0.0, 0.0, 0.0), target=0.0)


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


def test_the_gunner_also_shoots_where_no_monster_is():
    game = Game("arena", 4)
    rows = list(play(game, Gunner(np.random.default_rng(1)), 3000))
    game.close()
    attack = np.array([row.actions[BUTTONS.index("attack")] for row in rows], bool)
    empty = np.array([not row.actors[:, MIDDLE].any() for row in rows])
    assert attack[empty].sum() > 0.4 * attack.sum() and attack[~empty].sum() > 0.2 * attack.sum()
    gunner, turns = Gunner(np.random.default_rng(0)), 0
    monster = np.zeros((16, 20), np.uint8)
    monster[8, 10] = 9
    for actors, shoots in ((np.zeros_like(monster), True), (monster, False)):
        held = np.array([move(replace(AIMED_AT, actors=actors)) for _ in range(50) for move in gunner._waste()], bool)
        turns += held[:, 4:6].sum()
        assert held[:, 6].any() == shoots
    assert turns > 100


def test_cells_tell_how_much_of_them_monsters_cover(data_sets):
    labels = np.random.default_rng(0).integers(0, 6, (256, 320)).astype(np.uint8)
    labels[:16, :16] = 3
    shares = np.isin(labels, [3, 5]).reshape(16, 16, 20, 16).mean(axis=(1, 3))
    cells = covered(labels, [3, 5])
    assert cells.shape == (16, 20) and cells.dtype == np.uint8 and cells[0, 0] == 255
    assert np.abs(cells - 255 * shares).max() <= 0.5
    assert not covered(labels, []).any()
    recording = load_recordings(data_sets, CPU)
    assert recording.actors.shape == (1900, 16, 20) and not recording.actors[:300].any()
    arena, seen = recording.actors[300:].flatten(1).any(dim=1), recording.stats[300:, 1].bool()
    assert not (seen & ~arena).any() and 0 < float(arena.float().mean()) < 1


@pytest.mark.parametrize(("target", "wanted"), [(-30.0, "turn_left"), (30.0, "turn_right"), (2.0, "attack")])
def test_the_gunner_turns_to_its_target(target, wanted):
    gunner = Gunner(np.random.default_rng(0))
    view = replace(AIMED_AT, target=target)
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


def test_frames_on_disk_are_encoded_as_those_on_the_device(data_sets):
    whole, mapped = (load_recordings(data_sets, CPU, mapped=mapped) for mapped in (False, True))
    assert isinstance(whole.frames, torch.Tensor) and isinstance(mapped.frames, MappedFrames)
    assert torch.equal(mapped.frames[148:303], whole.frames[148:303]), "over the ends of shards and data sets"
    torch.manual_seed(0)
    vae = VideoVAE(TINY_AUTOENCODER).eval()
    latents = encode_recording(vae, mapped, batch=190)
    assert torch.equal(latents, encode_recording(vae, whole, batch=190))
    for end in (0, 2, 189, 190, 300, 1899):
        index = torch.arange(end - 3, end + 1).clamp(min=int(whole.first[end]))
        with torch.no_grad():
            latent = vae.encode(whole.frames[index][None])[0, :, 0]
        torch.testing.assert_close(latents[end], latent, atol=1e-4, rtol=1e-4)
    assert not len(mapped.without_frames().frames)


def test_scenes_come_by_their_shares(data_sets):
    generator = torch.Generator().manual_seed(0)
    recording = load_recordings(data_sets, CPU, shares=[3, 1])
    assert recording.shares.tolist() == [0.75, 0.25]
    ends = recording.chunk_ends(4, chunks_before=1)
    drawn = draw_ends(recording, ends, 40_000, generator)
    assert drawn.shape == (40_000,) and set(drawn.tolist()) <= set(ends.tolist())
    assert len(drawn.unique()) > 0.99 * len(ends), "each moment may come"
    assert float((drawn < 300).float().mean()) == pytest.approx(0.75, abs=0.01)
    arena = ends[ends >= 300]
    assert set(draw_ends(recording, arena, 4000, generator).tolist()) <= set(arena.tolist()), "of no maze, none"
    as_many = draw_ends(load_recordings(data_sets, CPU), ends, 100, torch.Generator().manual_seed(1))
    assert torch.equal(as_many, ends[torch.randint(len(ends), (100,), generator=torch.Generator().manual_seed(1))])


def test_recorded_and_played_windows_come_by_the_shares(data_sets):
    recording = load_recordings(data_sets, CPU, shares=[0.9, 0.1])
    source = WindowSource(torch.zeros(1900, 1, 1, 1), recording, history=19, chunk=4)
    args = SimpleNamespace(seed=0, batch=600, rollout_batch=600, rollout=1.0, near=0)
    batches = Batches(args, source, recording.chunk_ends(4, chunks_before=1), Rank(0, 1, CPU))
    for window in (batches.recorded(torch.Generator().manual_seed(0)), batches.pool.window):
        assert float(window.actions[:, 0, 28].mean()) == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        (["1"], "1 shares for 2 data sets: give one for each"),
        (["1", "0"], "shares are 1, 0: must be positive"),
        (["nan", "1"], "shares are nan, 1: must be positive"),
    ],
)
def test_shares_are_positive_and_one_for_each_data_set(data_sets, tmp_path, capsys, shares, text):
    words = ["train", "--data", *map(str, data_sets), "--run", str(tmp_path / "run"), "--shares", *shares]
    assert main([*words, "--dry-run"]) == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error


def test_two_data_sets_of_one_scene_are_refused(data_sets):
    with pytest.raises(UserError, match="maze, maze: give one for each scene"):
        load_recordings([data_sets[0], data_sets[0]], CPU)


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
    recording = load_recordings(data_sets[1:], CPU)
    ends = beginnings(recording, 4, 19, 5, seed=0)
    assert len(ends) == 5 and all(end - int(recording.first[end]) == 4 * BEGUN - 1 for end in ends)
    starts = encode_starts(VideoVAE(TINY_AUTOENCODER).eval(), recording, ends, 19)
    assert starts.shape == (5, 16, 19, 16, 20)
    assert not starts[:, :, :-BEGUN].any() and starts[:, :, -BEGUN:].any(dim=(1, 3, 4)).all()
