"""Outcomes: what came of recorded chunks, the network that tells, its calibration, its way into a pack and a step."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from helios_world.checkpoint import load_weights, save_weights
from helios_world.config import TINY, TINY_AUTOENCODER, OutcomeConfig
from helios_world.demos.cli import main
from helios_world.errors import PackError
from helios_world.generator import load_generator
from helios_world.model.dit import VideoDiT
from helios_world.model.outcome import EVENTS, OutcomeNetwork
from helios_world.model.vae import VideoVAE
from helios_world.pack import OUTCOME, TRANSFORMER, VAE, read_pack
from helios_world.sampling.pyramid import seeded_noise, seeded_uniform
from helios_world.testing import assert_world_model_contract
from helios_world.training import outcome_eval
from helios_world.training.calibration import auc, brier, calibration_error, fit_line, score
from helios_world.training.cases import HELD_OUT, Case, Cases, came_of, held_sets
from helios_world.training.collect import Row
from helios_world.training.data import Recording, WindowSource
from helios_world.training.losses import outcome_loss

STILL = np.zeros((1, 4, 7), np.float32)
CONFIG = OutcomeConfig(recalled=5, scene_dim=2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network_of(config: OutcomeConfig, seed: int = 0) -> OutcomeNetwork:
    """With random weights that tell chunks apart."""
    network = OutcomeNetwork(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.03 * torch.randn(parameter.shape, generator=seeded(seed)))
    return network


def games(lengths, over, rewards=(), scene=0) -> Recording:
    """Games of so many frames; those in `over` end by themselves, with the reward there; `rewards` came at frames."""
    n = sum(lengths)
    first, outcomes = torch.zeros(n, dtype=torch.long), torch.zeros(n, 3)
    begin = 0
    for number, length in enumerate(lengths):
        first[begin : begin + length] = begin
        if number in over:
            outcomes[begin + length - 1, 1:] = torch.tensor([float(over[number]), 1.0])
        begin += length
    outcomes[list(rewards), 0] = 1.0
    actions = torch.arange(7 * n).reshape(n, 7).to(torch.uint8)
    scenes = torch.full((n,), scene)
    stats, actors = torch.zeros(n, 2), torch.zeros(n, 16, 20, dtype=torch.uint8)
    return Recording(torch.zeros(0), actions, first, scenes, np.zeros((n, 3)), outcomes, stats, actors, ("a", "b"), ())


def source_of(recording: Recording) -> WindowSource:
    """Latents are their own frame's number, counted from 1."""
    n = len(recording.first)
    latents = torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 1, 1, 1) + 1
    return WindowSource(latents, recording, history=2, chunk=4)


def test_what_came_of_chunks():
    """A game of 12 frames that ends with a reward, one of 10 that time ends, and one of 5 that the recording ends."""
    recording = games([12, 10, 5], {0: 1.0}, rewards=[5, 20])
    ends = recording.chunk_ends(4)
    came, known = came_of(recording.outcomes, recording.first, ends, 4)
    told = {int(end): tuple(row) for end, row in zip(ends[known], came[known].int().tolist(), strict=True)}
    nothing = dict.fromkeys([3, 4, 15, 16, 17, 18], (0, 0))
    assert told == nothing | dict.fromkeys([5, 6, 7], (1, 0)) | dict.fromkeys([8, 9, 10, 11], (1, 1))
    assert sorted(set(ends.tolist()) - set(told)) == [19, 20, 21, 25, 26], "there it was never seen how it went on"


def test_of_chunks_that_follow_one_another_each_event_is_in_one():
    for length in (8, 9, 10, 11):
        recording = games([length], {0: 1.0}, rewards=[6])
        came, known = came_of(recording.outcomes, recording.first, torch.arange(3, length, 4), 4)
        assert known.all() and came[:, EVENTS.index("end")].sum() == 1 and came[-1].all()


def test_a_reward_in_the_last_frames_is_that_of_the_last_whole_chunk():
    recording = games([11, 11], {0: 0.0}, rewards=[10, 18])
    came, known = came_of(recording.outcomes, recording.first, torch.tensor([3, 7, 14]), 4)
    assert came.tolist() == [[False, False], [True, True], [False, False]] and known.all()


def test_death_without_a_reward_brings_none():
    recording = games([12], {0: 0.0})
    came, _ = came_of(recording.outcomes, recording.first, recording.chunk_ends(4), 4)
    assert not came[:, 0].any() and came[-1, 1]


def test_batches_are_balanced_and_whole_games_are_held_out():
    lengths = [40] * 24
    recording = games(lengths, dict.fromkeys(range(0, 24, 3), 0.0), rewards=range(11, 960, 80))
    recording = replace(recording, scene=(recording.first >= 480).long())
    cases = Cases(source_of(recording))
    case = cases.draw(4000, seeded())
    assert case.latents.shape == (4000, 1, 3, 1, 1) and case.actions.shape == (4000, 30)
    scene = case.actions[:, -1].long()
    for number in range(2):
        for event in range(2):
            group = (scene == number) & (case.event == event)
            assert 900 < int(group.sum()) < 1100 and 0.4 < float(case.came[group].mean()) < 0.6
    newest = case.latents[:, 0, -1, 0, 0].long() - 1
    wanted, _ = came_of(recording.outcomes, recording.first, newest, 4)
    assert torch.equal(wanted.gather(1, case.event[:, None])[:, 0].float(), case.came)
    assert torch.equal(scene, recording.scene[newest])
    assert torch.equal(case.actions[:, :28].view(-1, 4, 7)[:, -1], recording.actions[newest].float())
    held = torch.cat([part.latents[:, 0, -1, 0, 0].long() - 1 for s in (0, 1) for part in cases.held_out(s, 0, rows=9)])
    assert set((held // 40).tolist()) == {HELD_OUT - 1, 2 * HELD_OUT - 1, 3 * HELD_OUT - 1}
    assert not set((newest // 40).tolist()) & set((held // 40).tolist())
    early = newest % 40 < 7
    assert early.any() and not case.latents[early][:, 0, :2].any(), "before a game begins there is nothing"


def test_the_odds_of_a_batch_are_corrected_to_those_of_the_game():
    """Two games of 40 frames with a reward in one: 4 of 74 chunks have it; the game's end is known of neither."""
    cases = Cases(source_of(replace(games([43, 43], {}, rewards=[20]), scenes=("a",))))
    assert cases.log_odds() == pytest.approx([np.log(4.5 / 70.5), np.log(0.5 / 74.5)])
    case = cases.draw(100, seeded())
    assert not case.came[case.event == 1].any(), "what never comes is seen not to come"


def test_half_of_what_did_not_come_holds_what_is_held_where_it_came():
    """Rewards come under button 6, or under 5, which is never held without one; most chunks without hold nothing."""
    recording = games([400] * 16, {}, rewards=range(12, 6400, 40))
    actions = torch.zeros(6400, 7, dtype=torch.uint8)
    actions[12::40, 6] = 1
    actions[12::160, 5] = 1
    actions[32::80, 6] = 1
    cases = Cases(source_of(replace(recording, actions=actions, scenes=("a",))))
    case = cases.draw(20_000, seeded())
    newest = case.latents[:, 0, -1, 0, 0].long() - 1
    absent = (case.event == 0) & (case.came == 0)
    _, game = recording.first.unique(return_inverse=True)
    ends = recording.chunk_ends(4)[game[recording.chunk_ends(4)] % HELD_OUT < HELD_OUT - 1]
    came, known = came_of(recording.outcomes, recording.first, ends, 4)
    ends = ends[known & ~came[:, 0]]
    for held in (0, 1 << 6):
        of_game = float((held_sets(actions, ends, 4) == held).float().mean())
        drawn = held_sets(actions, newest[absent], 4) == held
        offset = case.offset[absent][drawn]
        assert (offset == offset[0]).all()
        assert float(drawn.float().mean()) == pytest.approx(of_game * float(offset[0].exp()), rel=0.05)
    assert float(offset[0]) > 1, "more shots that miss than the game has"
    assert not case.offset[case.event == 1].any(), "of what never comes all chunks are as the game has them"


def test_offsets_make_matched_batches_tell_the_odds_of_the_game():
    """A logit for each set of buttons, fitted to a batch: with the log odds it is the chance in the game."""
    recording = games([400] * 16, {}, rewards=range(12, 6400, 80))
    actions = torch.zeros(6400, 7, dtype=torch.uint8)
    actions[12::20, 6] = 1
    recording = replace(recording, actions=actions, scenes=("a",))
    cases = Cases(source_of(recording))
    case = cases.draw(40_000, seeded())
    shot = (case.event == 0) & case.actions.view(-1, 4, 7)[:, :, 6].any(dim=1)
    batch_odds = float(case.came[shot].sum() / (1 - case.came[shot]).sum())
    logit = np.log(batch_odds) + float(case.offset[shot & (case.came == 0)][0])
    assert np.exp(logit + cases.log_odds()[0]) == pytest.approx(1 / 3, rel=0.1), "one shot in four is rewarded"


def test_a_line_is_fitted_by_what_came():
    """Logits that are twice too bold, of a game in which it comes rarely."""
    rng = np.random.default_rng(0)
    true = torch.from_numpy(rng.normal(-3, 2, 10_000))
    came = torch.from_numpy(rng.random(10_000)) < true.sigmoid()
    scale, bias = fit_line(2 * (true + 3), came, -2.0)
    assert scale == pytest.approx(0.5, abs=0.03) and bias == pytest.approx(-3.0, abs=0.15)
    assert fit_line(torch.zeros(0), torch.zeros(0), -2.0) == pytest.approx((1.0, -2.0)), "of nothing, the start"
    scale, bias = fit_line(torch.tensor([-1.0, 1.0]), torch.tensor([False, True]), 0.0)
    assert 1 < scale < 2 and bias == pytest.approx(0.0, abs=1e-6), "two chunks that are told apart are no certainty"


def test_the_loss_equals_its_equation():
    network, draw = network_of(CONFIG), seeded(1)
    case = Case(
        torch.randn(6, 16, 8, 16, 20, generator=draw),
        torch.rand(6, 30, generator=draw).round(),
        torch.tensor([0, 1, 0, 1, 0, 1]),
        torch.tensor([1.0, 0, 0, 1, 1, 1]),
        torch.tensor([0.0, 0.5, -0.5, 0.3, -0.2, 0.1]),
    )
    loss, figures = outcome_loss(network, case)
    errors = []
    for i in range(6):
        logits = network(case.latents[i : i + 1], case.actions[i : i + 1])[0]
        p = (logits[case.event[i]] - case.offset[i]).sigmoid()
        y = 0.99 if case.came[i] else 0.01
        errors.append(-(y * p.log() + (1 - y) * (1 - p).log()))
    assert loss.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)
    assert 0 <= float(figures["told"]) <= 1


def test_the_network_is_small_and_calibrated_by_scene():
    network = network_of(CONFIG)
    assert sum(p.numel() for p in network.parameters()) < 400_000
    network.scale.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    network.bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    x, actions = torch.randn(2, 16, 8, 16, 20, generator=seeded()), torch.zeros(2, 30)
    actions[0, 28], actions[1, 29] = 1.0, 1.0
    lines = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    torch.testing.assert_close(network.chances(x, actions), (lines[0] * network(x, actions) + lines[1]).sigmoid())
    alone = OutcomeNetwork(OutcomeConfig()).eval()
    x, actions = x[:, :, -3:], actions[:, :28]
    torch.testing.assert_close(alone.chances(x, actions), alone(x, actions).sigmoid())


def test_latents_are_recalled_cell_by_cell():
    network, actions = network_of(CONFIG), torch.zeros(1, 30)
    x = torch.randn(1, 16, CONFIG.window, 16, 20, generator=seeded(1))
    changed = torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, 1:]], dim=2)
    assert not torch.allclose(network(x, actions), network(changed, actions))
    alone = OutcomeNetwork(OutcomeConfig(scene_dim=2)).eval()
    alone.load_state_dict({name: w for name, w in network.state_dict().items() if name != "recall.weight"})
    network.recall.weight.data.zero_()
    torch.testing.assert_close(network(x, actions), alone(x[:, :, CONFIG.recalled :], actions))


def test_a_uniform_number_is_one_of_seed_and_chunk_and_none_of_the_noise():
    numbers = [seeded_uniform(seed, chunk) for seed in range(40) for chunk in range(40)]
    assert len(set(numbers)) == 1600 and 0 <= min(numbers) < 0.01 < 0.99 < max(numbers) < 1
    assert np.mean(numbers) == pytest.approx(0.5, abs=0.02)
    noise = seeded_noise([(7, 3)], torch.device("cpu"))((1, 1000), 0)
    assert seeded_uniform(7, 3) == seeded_uniform(7, 3)
    same = np.random.Generator(np.random.Philox(key=7, counter=(0, 0, 0, 3))).random()
    assert seeded_uniform(7, 3) != same and noise.std() > 0.9


@pytest.fixture(scope="module")
def judged_pack(tiny_pack, tmp_path_factory):
    """The tiny pack with an outcome network that is undecided."""
    folder = shutil.copytree(tiny_pack, tmp_path_factory.mktemp("packs") / "judged")
    pack, config = read_pack(str(folder)), OutcomeConfig(recalled=5)
    pack = replace(pack, card=replace(pack.card, outcomes=True), networks=replace(pack.networks, outcome=config))
    (folder / "world.json").write_text(json.dumps(pack.to_dict()))
    save_weights(folder / OUTCOME, network_of(config).state_dict(), int8=True)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_world_with_outcomes_fulfils_the_contract(judged_pack, dtype):
    assert_world_model_contract(load_generator(str(judged_pack), dtype=dtype), tolerance=1.0)


def test_outcomes_are_drawn_as_often_as_their_chances_say(judged_pack):
    generator = load_generator(str(judged_pack), dtype="float32")
    start, _ = generator.reset("maze", seed=0)
    states = [replace(start, seed=seed) for seed in range(64)]
    after, _ = generator.step(states, np.repeat(STILL, 64, axis=0))
    outcomes = [state.outcome for state in after]
    for seed, outcome in enumerate(outcomes):
        drawn = seeded_uniform(seed, 1)
        assert (outcome.reward, outcome.terminated) == (drawn < outcome.reward_chance, drawn < outcome.end_chance)
        assert 0.01 < outcome.reward_chance < 0.99
    rewards = np.array([outcome.reward for outcome in outcomes])
    assert rewards.mean() == pytest.approx(np.mean([outcome.reward_chance for outcome in outcomes]), abs=0.15)
    single, _ = generator.step(states[5:6], STILL)
    assert single[0].outcome.reward_chance == pytest.approx(outcomes[5].reward_chance, abs=1e-3)
    assert generator.step(states[5:6], STILL)[0][0].outcome == single[0].outcome


def test_chances_are_of_the_newest_latents_and_buttons(judged_pack):
    generator = load_generator(str(judged_pack), dtype="float32")
    state, _ = generator.reset("maze", seed=0)
    attack = STILL.copy()
    attack[..., 6] = 1.0
    (after,), _ = generator.step([state], attack)
    wanted = generator.outcome.chances(after.history[None, :, -8:], torch.from_numpy(attack).flatten(1))
    assert [after.outcome.reward_chance, after.outcome.end_chance] == pytest.approx(wanted[0].tolist(), abs=1e-6)


def test_without_an_outcome_network_a_world_is_as_it_was(tiny_pack, judged_pack):
    plain, judged = (load_generator(str(pack), dtype="float32") for pack in (tiny_pack, judged_pack))
    assert plain.outcome is None and "outcome" not in read_pack(str(tiny_pack)).to_dict()
    (one, frames), (other, same) = (g.step([g.reset("maze", seed=3)[0]], STILL) for g in (plain, judged))
    assert np.array_equal(frames, same) and torch.equal(one[0].history, other[0].history)
    assert one[0].outcome != other[0].outcome and one[0].outcome.reward_chance == 0.0
    assert outcome_eval.outcome_figures(plain, "maze", 1, 0) == {}


def test_a_pack_that_lacks_its_outcome_network_is_refused(judged_pack, tmp_path):
    folder = shutil.copytree(judged_pack, tmp_path / "copy")
    (folder / OUTCOME).unlink()
    with pytest.raises(PackError, match=r"outcome.safetensors is missing"):
        load_generator(str(folder))


def test_a_pack_whose_outcomes_look_back_further_than_its_world_is_refused(judged_pack, tmp_path):
    folder = shutil.copytree(judged_pack, tmp_path / "copy")
    values = json.loads((folder / "world.json").read_text())
    values["outcome"]["recalled"] = 17
    (folder / "world.json").write_text(json.dumps(values))
    with pytest.raises(PackError, match="outcomes come from 20 latents: the world remembers 19"):
        load_generator(str(folder))


def test_scores_of_known_chances():
    chances = np.array([0.1, 0.4, 0.4, 0.8, 0.95])
    came = np.array([False, False, True, True, False])
    pairs = [(a > b) + 0.5 * (a == b) for a in chances[came] for b in chances[~came]]
    assert auc(chances, came) == pytest.approx(np.mean(pairs)) == pytest.approx(3.5 / 6)
    assert brier(chances, came) == pytest.approx((0.01 + 0.16 + 0.36 + 0.04 + 0.9025) / 5)
    # by bins: 0.1 of none, 0.4 twice of one, 0.8 of one, 0.95 of none
    assert calibration_error(chances, came) == pytest.approx((0.1 + 0.2 + 0.2 + 0.95) / 5)
    assert auc(chances, came & False) is None and auc(chances, came | True) is None
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0.0
    scored = score(chances, came)
    assert scored["base_rate"] == 0.4 and scored["brier_base_rate"] == pytest.approx(0.24)


def test_chances_that_know_nothing_score_as_the_base_rate_does():
    rng = np.random.default_rng(0)
    came = rng.random(20_000) < 0.1
    scored = score(np.full(20_000, 0.1), came)
    assert scored["auc"] == 0.5 and scored["brier"] == pytest.approx(scored["brier_base_rate"], abs=1e-3)
    chances = rng.random(20_000)
    assert calibration_error(chances, rng.random(20_000) < chances) < 0.02


def test_a_game_is_judged_chunk_by_chunk_as_a_step_would(judged_pack):
    generator = load_generator(str(judged_pack), dtype="float32")
    (game,) = outcome_eval.whole_games("maze", 1, seed=2)
    game = Row(*(part[:22] for part in game))
    chances, came = outcome_eval.judge(generator, "maze", game)
    assert chances.shape == came.shape == (4, 2), "of the fifth it was never seen how it went on"
    latents = generator.encode(game.frames[:20])
    window = torch.nn.functional.pad(latents[:, :2], (0, 0, 0, 0, 6, 0))[None]
    held = torch.from_numpy(game.actions[4:8].astype(np.float32)).reshape(1, 28)
    np.testing.assert_allclose(chances[1], generator.outcome.chances(window, held)[0].numpy(), atol=1e-5)


def test_from_the_games_to_outcomes_of_a_pack(data_sets, tmp_path, capsys):
    """train, train on, export, and a step has chances: a small autoencoder, a few iterations."""
    run, pack = tmp_path / "run", tmp_path / "pack"
    data = list(map(str, data_sets))
    train = ["train", "--data", *data, "--run", str(run), "--preset", "tiny", "--device", "cpu", "--batch", "4"]
    assert main([*train, "--dry-run"]) == 0
    save_weights(run / VAE, VideoVAE(TINY_AUTOENCODER).state_dict())
    save_weights(run / TRANSFORMER, VideoDiT(replace(TINY, scene_dim=2)).state_dict())
    (run / "config.json").write_text(capsys.readouterr().out)
    config = (run / "config.json").read_bytes()
    assert main([*train, "--stage", "outcome", "--iterations", "20"]) == 0
    assert (run / "config.json").read_bytes() == config, "what made the world stays on record"
    before = load_weights(run / OUTCOME)
    capsys.readouterr()
    assert main([*train, "--stage", "outcome", "--iterations", "2"]) == 0
    assert "starting from" in capsys.readouterr().out
    after = load_weights(run / OUTCOME)
    assert set(after) == set(before) and not torch.equal(after["look.weight"], before["look.weight"])
    assert after["bias"].shape == (4,) and (after["bias"] < 0).all(), "rewards and ends are rare"
    export = ["export", "--run", str(run), "--data", *data, "--starts", "2", "--out", str(pack)]
    assert main(export) == 0
    read = read_pack(str(pack))
    assert read.card.outcomes and read.networks.outcome == CONFIG
    assert read.provenance["outcome"]["stage"] == "outcome" and read.provenance["training"]["stage"] == "all"
    assert (pack / OUTCOME).stat().st_size < 2**19
    generator = load_generator(str(pack), dtype="float32")
    states = [generator.reset(scene, seed=1)[0] for scene in ("maze", "arena")]
    following, _ = generator.step(states, np.repeat(STILL, 2, axis=0))
    chances = [state.outcome.end_chance for state in following]
    assert all(0 < chance < 0.3 for chance in chances) and chances[0] != chances[1]
    figures = outcome_eval.outcome_figures(generator, "arena", 1, 0)
    assert set(figures) == {"reward", "end", "chunks", "games"} and figures["end"]["base_rate"] > 0
    (run / "outcome.json").write_text(
        json.dumps({**json.loads((run / "outcome.json").read_text()), "scenes": ["moon"]})
    )
    assert main(export) == 2
    assert "knows the scenes moon: the world has maze, arena" in capsys.readouterr().err
