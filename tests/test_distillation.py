"""Stage 3: each loss against a few lines that say the same, and every stage for some steps on a CPU."""

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helios_world.config import TINY
from helios_world.demos.cli import main
from helios_world.generator import load_generator
from helios_world.model.dit import VideoDiT, initialise
from helios_world.model.memory import split_memory
from helios_world.sampling.pyramid import double, halve, level_endpoints, sample_pyramid
from helios_world.sampling.schedule import LOCAL_SIGMA, pyramid_levels
from helios_world.training import losses
from helios_world.training.critic import Critic
from helios_world.training.data import Window
from helios_world.training.losses import (
    CRITIC_WEIGHT,
    JUDGED_WEIGHT,
    PENALTY_NOISE,
    PENALTY_WEIGHT,
    critic_loss,
    distribution_matching_loss,
    flow_loss,
    judged_loss,
    ode_loss,
    regression_loss,
    remember,
    student_chunk,
)

LEVELS = pyramid_levels(2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(seed: int) -> VideoDiT:
    """With weights that answer to everything they are given."""
    model = VideoDiT(TINY)
    initialise(model, seeded(seed))
    generator = seeded(seed + 100)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def small_window(batch: int = 3) -> Window:
    draw = seeded(4)
    shapes = [(batch, 16, n, 8, 8) for n in (sum(TINY.history_sizes), 1, 1)]
    return Window(
        *(torch.randn(shape, generator=draw) for shape in shapes),
        torch.randint(0, 2, (batch, 1, 28), generator=draw).float(),
        torch.arange(1, batch + 1),
        1 + 9 * torch.rand(batch, 1, 1, 8, 8, generator=draw),
    )


@pytest.fixture
def sigmas(monkeypatch):
    """The local sigmas of judgement, the same for every call."""
    fixed = torch.tensor([0.2, 0.5, 0.9])
    monkeypatch.setattr(losses, "_judged_sigmas", lambda count, *others: fixed.repeat_interleave(count // 3))
    return fixed


def velocity(model, z, level, sigma, window):
    """Of each row on its own, without a context worked out before."""
    rows = []
    for i in range(len(z)):
        own = Window(*(part[i : i + 1] for part in window))
        memory = split_memory(own.history, own.anchor, TINY.history_sizes)
        rows.append(model(z[i : i + 1], level.timestep(sigma[i : i + 1]), memory, own.actions))
    return torch.cat(rows)


@pytest.mark.parametrize("steps", [1, 3])
def test_ode_loss_is_one_step_against_many(steps):
    student, teacher, window = network(1), network(2), small_window()
    loss, parts = ode_loss(student, teacher, window, LEVELS, steps, seeded(5))
    draw, errors = seeded(5), []
    z = 2 * halve(torch.randn(window.clean.shape, generator=draw))
    for index, level in enumerate(LEVELS):
        if index:
            z = double(z)
            noise = torch.randn(z.shape, generator=draw)
            z = level.alpha * z + level.beta * (4 / 3) ** 0.5 * (noise - double(halve(noise)))
        made = z - LOCAL_SIGMA * velocity(student, z, level, torch.full((3,), LOCAL_SIGMA), window)
        for step in range(steps):
            sigma = torch.full((3,), LOCAL_SIGMA * (1 - step / steps))
            z = z - LOCAL_SIGMA / steps * velocity(teacher, z, level, sigma, window)
        weight = F.interpolate(window.weight[:, :, 0], z.shape[-2:], mode="area")[:, :, None]
        errors.append((weight * (made - z.detach()).square()).mean())
    assert [float(part) for part in parts.values()] == pytest.approx([e.item() for e in errors], rel=1e-3)
    assert loss.item() == pytest.approx(sum(errors).item() / 2, rel=1e-3)
    loss.backward()
    assert student.proj_out.weight.grad.abs().sum() > 0 and teacher.proj_out.weight.grad is None


def test_a_teacher_of_one_step_has_nothing_to_teach_its_own_copy():
    model = network(1)
    loss, _ = ode_loss(copy.deepcopy(model), model, small_window(), LEVELS, 1, seeded())
    assert loss < 1e-10


def test_a_student_of_one_step_plays_as_the_sampler_does():
    model, window, draw = network(1), small_window(), seeded(7)
    chunk = student_chunk(model, window, LEVELS, (1, 1), seeded(7))
    context, levels_left = remember(model, window), []

    def noise(shape, index):
        if index:
            levels_left.append(int(torch.randint(1, (1,), generator=draw)))  # the exit drawn in the level before
        return torch.randn(shape, generator=draw)

    def at(z, t):
        return model(z, torch.full((len(z),), t), context, window.actions)

    wanted = sample_pyramid(at, noise, tuple(window.clean.shape), LEVELS, (1, 1), 1 / 3)
    torch.testing.assert_close(chunk, wanted, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_student_through_every_level():
    model, window = network(1), small_window()
    seen = []
    step = model.forward
    model.forward = lambda *args: seen.append(torch.is_grad_enabled()) or step(*args)
    for seed in range(6):
        student_chunk(model, window, LEVELS, (3, 3), seeded(seed)).square().mean().backward()
    assert seen.count(True) == 12, "one step of each level in each of six chunks"
    assert 12 < len(seen) < 36, "levels are left after one, two or three steps"
    assert model.patch_long.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("draws", [1, 2])
def test_matching_is_its_equation(sigmas, draws):
    real, fake, window = network(2), network(3), small_window()
    chunk = torch.randn(window.clean.shape, generator=seeded(8)).requires_grad_()
    loss, _ = distribution_matching_loss(chunk, real, fake, window, LEVELS, draws, 0.0, seeded(9))
    loss.backward()
    draw, wanted, errors, weight = seeded(9), torch.zeros_like(chunk), [], window.weight
    for index in (1, 0):
        noise = torch.randn(len(chunk) * draws, *chunk.shape[1:], generator=draw)
        start, end = level_endpoints(chunk.detach().repeat_interleave(draws, dim=0), noise, LEVELS, index)
        weight, pulls = weight if index else halve(weight), []
        for each in range(draws):
            x, y, rows = start[each::draws], end[each::draws], sigmas[:, None, None, None, None]
            z = rows * x + (1 - rows) * y
            ends = [z - rows * velocity(model, z, LEVELS[index], sigmas, window) for model in (fake, real)]
            pulls.append((ends[0] - ends[1]) / (y - ends[1]).abs().mean(dim=(1, 2, 3, 4), keepdim=True))
        direction = sum(pulls) / draws
        errors.append(0.5 * (weight * direction.square()).mean())
        pulled = weight * direction / direction.numel() / 2
        wanted += pulled if index else double(pulled) / 4
    assert loss.item() == pytest.approx(sum(errors).item() / 2, rel=1e-3)
    torch.testing.assert_close(chunk.grad, wanted.detach(), rtol=1e-3, atol=1e-7)


def test_nothing_pulls_where_both_scores_agree(sigmas):
    real, window = network(2), small_window()
    chunk = torch.randn(window.clean.shape, generator=seeded(8))
    assert distribution_matching_loss(chunk, real, real, window, LEVELS, 2, 0.0, seeded())[0] == 0


def test_sigmas_of_judgement_start_with_much_noise_and_end_anywhere():
    early, late = (losses._judged_sigmas(4000, torch.device("cpu"), p, seeded()) for p in (0.0, 0.5))
    assert early.mean() > 0.68 and abs(float(late.mean()) - 0.5) < 0.02
    assert abs(float(late.std()) - 0.96 / 12**0.5) < 0.02
    assert min(early.min(), late.min()) >= 0.02 and max(early.max(), late.max()) <= 0.98


def test_the_critic_learns_by_its_equation(sigmas):
    critic, window = Critic(network(3)), small_window()
    chunk = torch.randn(window.clean.shape, generator=seeded(8))
    loss, parts = critic_loss(critic, chunk, window, LEVELS, seeded(9), draws=2, recorded=3)
    draw = seeded(9)
    context = remember(critic.score, window)
    flow, _ = flow_loss(critic.score, context, window._replace(clean=chunk), LEVELS, [2, 2], draw)
    zs = []
    for clean in (chunk, window.clean):
        start, end = level_endpoints(clean, torch.randn(clean.shape, generator=draw), LEVELS, 1)
        zs.append(torch.lerp(end, start, sigmas[:, None, None, None, None]))
    zs.append(zs[1] + PENALTY_NOISE * torch.randn(zs[1].shape, generator=draw))
    made, real, shaken = (critic.judge(z, LEVELS[1].timestep(sigmas), context, window.actions) for z in zs)
    versus = torch.log(1 + (made - real).exp()).mean()
    wanted = flow + CRITIC_WEIGHT * (versus + PENALTY_WEIGHT * (real - shaken).square().mean())
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert made.shape == (3, len(critic.taps) + 1) and float(parts["versus"]) == pytest.approx(versus.item(), rel=1e-4)
    without, parts = critic_loss(critic, chunk, window, LEVELS, seeded(9), draws=2, recorded=0)
    assert without.item() == pytest.approx(flow.item()) and "versus" not in parts, "no rows to judge, no adversary"


def test_heads_see_recorded_rows_alone(monkeypatch):
    critic, window = Critic(network(3)), small_window()
    chunk, judged = torch.randn(window.clean.shape, generator=seeded(8)), []
    judge = critic.judge
    monkeypatch.setattr(
        critic, "judge", lambda z, t, context, actions: judged.append(z) or judge(z, t, context, actions)
    )
    loss, _ = critic_loss(critic, chunk, window, LEVELS, seeded(9), draws=1, recorded=2)
    assert len(judged[0]) == 2 * 3 and torch.isfinite(loss)


def test_the_student_is_judged_by_its_equation(sigmas):
    critic, window = Critic(network(3)), small_window()
    chunk = torch.randn(window.clean.shape, generator=seeded(8)).requires_grad_()
    loss = judged_loss(critic, chunk, window, LEVELS, seeded(9))
    draw, logits = seeded(9), []
    for clean in (chunk, window.clean):
        start, end = level_endpoints(clean, torch.randn(chunk.shape, generator=draw), LEVELS, 1)
        z = torch.lerp(end, start, sigmas[:, None, None, None, None])
        logits.append(critic.judge(z, LEVELS[1].timestep(sigmas), remember(critic.score, window), window.actions))
    made, real = logits
    assert loss.item() == pytest.approx(JUDGED_WEIGHT * F.softplus(real - made).mean().item(), rel=1e-5)
    loss.backward()
    assert chunk.grad.abs().sum() > 0


def test_a_critic_comes_to_tell_made_from_real():
    critic, window = Critic(network(3)), small_window(8)
    made = 0.3 * window.clean
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    for step in range(60):
        loss, parts = critic_loss(critic, made, window, LEVELS, seeded(step), draws=1, recorded=8)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert parts["told"] > 0.8


def test_every_stage_runs_and_goes_on(tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    assert main(["collect", "--out", str(data), "--frames", "300", "--workers", "1", "--seed", "5"]) == 0
    common = ["train", "--data", str(data), "--run", str(run), "--preset", "tiny", "--device", "cpu", "--batch", "2"]
    assert main([*common, "--stage", "ode", "--iterations", "1"]) == 2
    assert "train the autoencoder first" in capsys.readouterr().err
    first = ["--autoencoder-iterations", "20", "--autoencoder-batch", "2", "--iterations", "20", "--rollout-batch", "2"]
    assert main([*common, *first]) == 0
    weights = run / "transformer.safetensors"
    states = [weights.read_bytes()]
    for stage, options in (
        ("ode", ["--teacher-steps", "2"]),
        ("distil", ["--rollout-batch", "2", "--critic-turns", "2", "--adversary-from", "0.5"]),
    ):
        assert main([*common, "--stage", stage, "--iterations", "20", *options]) == 0
        states.append(weights.read_bytes())
    assert len(set(states)) == 3
    teacher = (run / "teacher.safetensors").read_bytes()
    assert main([*common, "--stage", "distil", "--iterations", "2", "--rollout-batch", "0"]) == 0
    assert (run / "teacher.safetensors").read_bytes() == teacher and "the teacher is" in capsys.readouterr().out
    log = [json.loads(line) for line in (run / "critic.jsonl").read_text().splitlines()]
    assert log[0]["penalty"] >= 0 and log[0]["versus"] > 0 and "match_1" in (run / "transformer.jsonl").read_text()


@pytest.fixture(scope="module")
def begun(data_sets, tmp_path_factory):
    """Words that train on the maze, and a run whose autoencoder has begun."""
    run = tmp_path_factory.mktemp("begun") / "run"
    words = ["train", "--data", str(data_sets[0]), "--preset", "tiny", "--device", "cpu", "--batch", "2"]
    words += ["--iterations", "1", "--autoencoder-iterations", "2", "--autoencoder-batch", "2", "--rollout-batch", "2"]
    assert main([*words, "--run", str(run), "--stage", "autoencoder"]) == 0
    return words, run


@pytest.mark.parametrize(
    "switch, stages",
    [
        ("--no-anchor", ["base"]),
        ("--no-corruption", ["base", "ode"]),
        ("--positions absolute", ["base"]),
        ("--history-sizes 0 0 3", ["base"]),
        ("--draws 1", ["base", "distil"]),
        ("--adversary-from 2", ["base", "distil"]),
    ],
)
def test_the_recipe_without_one_of_its_ideas(begun, tmp_path, monkeypatch, switch, stages):
    """Each leaves out what it says and nothing else: in the stages that know of it, in the pack, when it is played."""
    words, run, pack, corrupted = begun[0], tmp_path / "run", tmp_path / "pack", []
    shutil.copytree(begun[1], run)
    monkeypatch.setattr(losses, "corrupt", lambda x, generator: corrupted.append(len(x)) or x)
    for stage in stages:
        options = ["--stage", stage, "--critic-turns", "1", "--adversary-from", "0", *switch.split()]
        assert main([*words, "--run", str(run), *options]) == 0
    assert bool(corrupted) == (switch != "--no-corruption")
    for name, figure in (("critic", "versus"), ("transformer", "judged")) if "distil" in stages else ():
        assert (figure in (run / f"{name}.jsonl").read_text()) == (switch != "--adversary-from 2")
    assert main(["export", "--run", str(run), "--data", words[2], "--out", str(pack), "--starts", "1"]) == 0
    generator = load_generator(str(pack), dtype="float32")
    assert len(generator.levels) == (1 if switch == "--draws 1" else 2)
    state, _ = generator.reset("maze")
    _, frames = generator.step([state], np.zeros((1, 4, 7), np.float32))
    assert frames.shape == (1, 4, 128, 160, 3)
    others = (state, replace(state, anchor=state.anchor + 1), replace(state, chunk=9))
    keys, other_anchor, later = (generator.prepare(some).layers[-1][0] for some in others)
    assert torch.equal(keys, other_anchor) == (switch == "--no-anchor")
    assert torch.equal(keys, later) == (switch != "--positions absolute")
    assert (keys.shape[2] == 4 * 8 * 10) == (switch == "--history-sizes 0 0 3")


def test_a_stage_that_forgets_what_its_run_began_without_is_refused(begun, tmp_path, capsys):
    words, run = begun[0], tmp_path / "run"
    shutil.copytree(begun[1], run)
    words = [*words, "--run", str(run), "--stage"]
    assert main([*words, "base", "--no-corruption"]) == 0
    learnt = (run / "transformer.safetensors").read_bytes()
    capsys.readouterr()
    for stage in ("ode", "distil"):
        assert main([*words, stage]) == 2
        error = capsys.readouterr().err
        assert "has corruption false, not true: give the same options" in error and error.count("\n") == 1
    assert main([*words, "ode", "--no-corruption", "--no-anchor"]) == 2
    assert "has anchor true, not false" in capsys.readouterr().err
    assert (run / "transformer.safetensors").read_bytes() == learnt


def test_the_truth_is_asked_of_near_rows_alone():
    window, chunk = small_window(), torch.randn(3, 16, 1, 8, 8, generator=seeded(8))
    loss = regression_loss(chunk, window, torch.tensor([True, False, True]))
    errors = window.weight * (chunk - window.clean) ** 2
    torch.testing.assert_close(loss, (errors[0].mean() + errors[2].mean()) / 2)
