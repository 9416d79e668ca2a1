"""Training: corruption, losses against few-line references, and every stage run on a CPU, from game to pack."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helios_world.checkpoint import load_weights, save_weights
from helios_world.config import TINY, TINY_AUTOENCODER
from helios_world.demos.cli import main
from helios_world.errors import UserError
from helios_world.generator import load_generator
from helios_world.model.dit import VideoDiT, initialise
from helios_world.model.memory import split_memory
from helios_world.model.vae import VideoVAE
from helios_world.pack import read_pack
from helios_world.sampling.pyramid import halve, level_endpoints, sample_pyramid, true_end
from helios_world.sampling.schedule import LOCAL_SIGMA, pyramid_levels
from helios_world.training.collect import play
from helios_world.training.corruption import CLEAN, corrupt, drop_history
from helios_world.training.data import Window, WindowSource, load_recordings
from helios_world.training.export import mean_weights
from helios_world.training.game import BUTTONS, Game, halved
from helios_world.training.loop import Length, Player, Schedule, SpikeGuard, make_optimizers, training_loop
from helios_world.training.losses import autoencoder_loss, draw_sigmas, pyramid_flow_loss, rollout_loss
from helios_world.training.ranks import Rank
from helios_world.training.rollouts import RolloutPool
from helios_world.training.stages import Batches
from helios_world.training.walker import Walker

ALONE = Rank(0, 1, torch.device("cpu"))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_window(batch: int = 3) -> Window:
    draw = seeded(4)
    return Window(
        torch.randn(batch, 16, sum(TINY.history_sizes), 8, 8, generator=draw),
        torch.randn(batch, 16, 1, 8, 8, generator=draw),
        torch.randn(batch, 16, 1, 8, 8, generator=draw),
        torch.randint(0, 2, (batch, 1, 28), generator=draw).float(),
        torch.arange(1, batch + 1),
        1 + 9 * torch.rand(batch, 1, 1, 8, 8, generator=draw),
    )


def at_size_of(z: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Averaged over what each cell of `z` covers."""
    return torch.nn.functional.interpolate(weight[:, :, 0], z.shape[-2:], mode="area")[:, :, None]


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """A few hundred frames of the real game, collected by the command."""
    folder = tmp_path_factory.mktemp("data") / "maze"
    assert main(["collect", "--out", str(folder), "--frames", "700", "--workers", "2", "--seed", "5"]) == 0
    return folder


def test_corruption_is_drawn_per_frame_and_leaves_blanks_blank():
    x = torch.randn(64, 4, 8, 4, 4, generator=seeded())
    x[:, :, :3] = 0
    y = corrupt(x, seeded(1))
    assert not y[:, :, :3].any()
    unchanged = (y == x).all(dim=(1, 3, 4))[:, 3:]
    assert abs(float(unchanged.float().mean()) - CLEAN) < 0.1
    assert (unchanged.any(dim=1) & ~unchanged.all(dim=1)).any(), "frames of one history must differ in kind"
    assert torch.equal(y, corrupt(x, seeded(1)))


def test_dropped_history_keeps_its_newest_frames():
    x = torch.ones(400, 1, 19, 2, 2)
    kept = drop_history(x, seeded())[:, 0, :, 0, 0]
    assert (kept[:, -1] == 1).all()
    assert (kept.diff(dim=1) >= 0).all(), "only the oldest frames may be blank"
    assert 0.05 < float((kept.sum(dim=1) < 19).float().mean()) < 0.3


def test_latents_that_are_kept_cost_what_they_moved():
    vae, known = VideoVAE(TINY_AUTOENCODER), VideoVAE(TINY_AUTOENCODER)
    known.load_state_dict(vae.state_dict())
    known.latent_std.fill_(0.5)
    torch.nn.init.constant_(known.encoder[-1].bias[:16], 0.25)
    shift = vae.encoder[-1].bias[:16].detach() - 0.25
    frames = torch.randint(0, 256, (2, 4, 16, 16, 3), dtype=torch.uint8, generator=seeded())
    plain, _ = autoencoder_loss(vae, frames, seeded(1))
    kept, figures = autoencoder_loss(vae, frames, seeded(1), known)
    moved = (shift / 0.5).square().mean().item()
    assert float(figures["moved"]) == pytest.approx(moved, rel=1e-4)
    assert kept.item() - plain.item() == pytest.approx(0.02 * moved, rel=1e-3)


def test_sigmas_are_often_at_the_start_and_never_over_it():
    sigma = draw_sigmas(4000, torch.device("cpu"), seeded())
    assert sigma.min() > 0 and sigma.max() <= LOCAL_SIGMA
    assert 0.45 < float((sigma == LOCAL_SIGMA).float().mean()) < 0.55


def test_flow_loss_equals_its_equation(monkeypatch):
    """w |v(sigma start + (1 - sigma) end) - (start - end)|^2 with the same draws, written out."""
    monkeypatch.setattr("helios_world.training.losses.corrupt", lambda x, g: x)
    monkeypatch.setattr("helios_world.training.losses.drop_history", lambda x, g: x)
    model, window, levels = VideoDiT(TINY), small_window(), pyramid_levels(2)
    initialise(model, seeded())
    torch.nn.init.normal_(model.proj_out.weight, std=0.1, generator=seeded(1))
    loss, parts = pyramid_flow_loss(model, window, levels, [1, 2], seeded(2))
    again, errors = seeded(2), []
    memory = split_memory(window.history, window.anchor, TINY.history_sizes, window.age)
    for index, count in enumerate([1, 2]):
        clean = window.clean.repeat_interleave(count, 0)
        start, end = level_endpoints(clean, torch.randn(clean.shape, generator=again), levels, index)
        sigma = draw_sigmas(len(clean), clean.device, again)
        row_errors = []
        for i in range(len(clean)):
            z = sigma[i] * start[i : i + 1] + (1 - sigma[i]) * end[i : i + 1]
            t = (levels[index].t_min + sigma[i] * (levels[index].t_max - levels[index].t_min))[None]
            own = type(memory)(*(part[i // count : i // count + 1] for part in memory))
            v = model(z, t, own, window.actions[i // count : i // count + 1])
            weight = at_size_of(v, window.weight[i // count : i // count + 1])
            row_errors.append((weight * (v - (start - end)[i : i + 1]).square()).mean())
        errors.append(torch.stack(row_errors).mean())
    assert [float(v) for v in parts.values()] == pytest.approx([e.item() for e in errors], rel=1e-4)
    assert loss.item() == pytest.approx(sum(errors).item() / 2, rel=1e-4)


@pytest.mark.parametrize("count", [2, 3])
def test_a_level_that_starts_from_the_truth_ends_where_training_pairs_end(count):
    levels, clean, noise = pyramid_levels(count), *(torch.randn(2, 4, 1, 8, 8, generator=seeded(i)) for i in (0, 1))
    for index in range(count):
        start, end = level_endpoints(clean, noise, levels, index)
        coarse = clean
        for _ in range(count - 1 - index):
            coarse = halve(coarse)
        torch.testing.assert_close(true_end(start, coarse if index == count - 1 else clean, levels, index), end)


def test_with_the_true_velocity_a_rollout_is_the_truth():
    """Level by level as when playing: whatever noise comes in between, the last step lands on the real chunk."""
    window, levels = small_window(), pyramid_levels(2)

    class Oracle:
        config, calls = TINY, 0

        def encode_history(self, memory):
            assert torch.equal(memory.short[:, :, 1:], window.history[:, :, -1:])

        def __call__(self, z, timestep, context, actions):
            self.calls += 1
            return (z - true_end(z, window.clean, levels, self.calls - 1)) / LOCAL_SIGMA

    loss, errors, chunk = rollout_loss(Oracle(), window, levels, seeded())
    torch.testing.assert_close(chunk, window.clean, atol=1e-5, rtol=0)
    assert loss < 1e-10 and list(errors) == ["rollout_0", "rollout_1"]


def test_a_rollout_is_what_playing_makes():
    window, levels, made, errors = small_window(), pyramid_levels(2), [], []
    model = VideoDiT(TINY)
    initialise(model, seeded())
    for zero_at_first in (model.proj_out, model.condition_embedder.time_proj):
        torch.nn.init.normal_(zero_at_first.weight, std=0.1, generator=seeded(1))
    loss, _, chunk = rollout_loss(model, window, levels, seeded(2))
    again = seeded(2)
    context = model.encode_history(split_memory(window.history, window.anchor, TINY.history_sizes))

    def velocity(z, timestep):
        wanted = (z - true_end(z, window.clean, levels, len(made))) / LOCAL_SIGMA
        made.append(model(z, torch.full((len(z),), timestep), context, window.actions).detach())
        errors.append((at_size_of(z, window.weight) * (made[-1] - wanted).square()).mean())
        return made[-1]

    def noise(shape, draw):
        return torch.randn(shape, generator=again)

    assert torch.equal(chunk, sample_pyramid(velocity, noise, tuple(window.clean.shape), levels, (1, 1), 1 / 3))
    assert loss.item() == pytest.approx(sum(errors).item() / 2, rel=1e-4)
    loss.backward()
    assert model.patch_long.weight.grad.abs().sum() > 0 and not chunk.requires_grad


def test_autoencoder_loss_equals_its_equation():
    vae = VideoVAE(TINY_AUTOENCODER)
    frames = torch.randint(0, 256, (2, 4, 16, 16, 3), dtype=torch.uint8, generator=seeded())
    loss, parts = autoencoder_loss(vae, frames, seeded(1))
    x = frames.float() / 127.5 - 1
    mean, log_variance = vae.posterior(x)
    y = vae.decode_raw(mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=seeded(1)))
    gradient = (y.diff(dim=2) - x.diff(dim=2)).abs().mean() + (y.diff(dim=3) - x.diff(dim=3)).abs().mean()
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    wanted = (y - x).abs().mean() + 0.5 * gradient + ((y - x) ** 2).mean() + 1e-4 * kl
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert float(parts["psnr_db"]) == pytest.approx(10 * torch.log10(4 / ((y - x) ** 2).mean()).item(), rel=1e-5)


def test_the_loop_learns_and_saves_averaged_weights(tmp_path):
    model, window, levels = VideoDiT(TINY), small_window(), pyramid_levels(2)
    initialise(model, seeded())
    losses = []

    def loss_fn(generator, progress):
        loss, figures = pyramid_flow_loss(model, window, levels, [1, 1], generator)
        losses.append(float(loss.detach()))
        return loss, figures

    schedule = Schedule(muon_learning_rate=1e-2, learning_rate=6e-3, warmup=4, ema=0.9)
    path = tmp_path / "transformer.safetensors"
    training_loop([Player(model, loss_fn, schedule, path)], Length(iterations=120), seed=0, rank=ALONE)
    assert len(losses) == 120
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
    log = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert log[0]["iteration"] == 0 and log[0]["loss"] > 0
    from helios_world.checkpoint import load_weights

    saved = load_weights(path)
    assert all(torch.equal(saved[name], p.detach()) for name, p in model.named_parameters())


def test_a_gradient_spike_is_dropped_and_counted():
    network = torch.nn.Linear(2, 1, bias=False)
    guard = SpikeGuard(1.0, torch.device("cpu"))
    sizes = []
    for size in [0.1] * 60 + [70.0, 0.1, 5.0, 0.5, float("nan")]:
        network.weight.grad = torch.tensor([[size, 0.0]])
        guard.clip([network.weight.grad])
        sizes.append(round(float(network.weight.grad.norm()), 3))
    assert sizes[:60] == [0.1] * 60
    assert sizes[60:] == [0.0, 0.1, 0.0, 0.5, 0.0]
    assert int(guard.spikes) == 3
    taken = 0
    for _ in range(40):  # as after a change of the loss: what stays is no spike
        network.weight.grad = torch.tensor([[50.0, 0.0]])
        guard.clip([network.weight.grad])
        taken += bool(network.weight.grad.any())
    assert 0 < taken < 40


def test_clipping_equals_a_product_and_dropping_a_fill_bit_for_bit():
    draw = seeded(3)

    def some(shape, dtype=torch.float32):
        return (torch.randn(shape, generator=draw) * 0.01).to(dtype)

    def gradients():
        return [some((3, 4)), some((4, 3)).t(), some((2, 1, 3)), some(()), some((5,), torch.bfloat16)]

    guard = SpikeGuard(0.01, torch.device("cpu"))
    for _ in range(50):
        usual = gradients()
        wanted = [gradient.clone() for gradient in usual]
        torch._foreach_mul_(wanted, (0.01 / (guard.clip(usual) + 1e-6)).clamp(max=1.0))
        assert all(torch.equal(gradient, value) for gradient, value in zip(usual, wanted, strict=True))
    for bad in (float("nan"), float("inf"), -1e6):
        spike = gradients()
        spike[1][0, 0] = bad
        guard.clip(spike)
        assert not any(gradient.any() or gradient.signbit().any() for gradient in spike)
    assert int(guard.spikes) == 3


def test_muon_takes_the_matrices_of_the_blocks_alone():
    adam, muon = make_optimizers(VideoDiT(TINY), Schedule(muon_learning_rate=1e-3))
    shapes = [p.ndim for group in muon.param_groups for p in group["params"]]
    assert set(shapes) == {2} and len(shapes) == 6 * TINY.num_layers
    assert any(p.ndim == 5 for group in adam.param_groups for p in group["params"])


def test_halved_is_the_mean_of_each_block():
    frame = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    wanted = frame.reshape(4, 2, 6, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(halved(frame) - wanted).max() <= 0.5


def test_the_action_of_a_row_led_to_its_frame():
    """Turning shows in the very frame whose row says so: an off-by-one would be invisible in the loss."""
    game = Game("maze", 11)
    game.reset()
    still = np.zeros(len(BUTTONS), np.uint8)
    turn = still.copy()
    turn[BUTTONS.index("turn_left")] = 1

    class Script:
        plan = iter([still] * 6 + [turn] + [still] * 20)

        def act(self, view):
            return next(self.plan)

    rows = list(play(game, Script(), 12))
    game.close()
    headings = np.unwrap(np.radians([row.poses[2] for row in rows]))
    first = next(i for i, row in enumerate(rows) if row.actions.any())
    moved = np.abs(np.diff(headings)) > 1e-3
    assert moved[first - 1] and not moved[: first - 1].any()


def test_the_walker_holds_every_button_and_sees_many_places():
    game, counts = Game("maze", 3), np.zeros(len(BUTTONS))
    cells = set()
    for row in play(game, Walker(np.random.default_rng(0)), 900):
        counts += row.actions
        cells.add((int(row.poses[0] // 96), int(row.poses[1] // 96)))
    game.close()
    assert (counts > 5).all() and counts[0] > 300
    assert len(cells) > 4


def test_windows_line_up(data_set):
    """Latents that are their own frame's number show which frames a window took."""
    source = numbered(data_set)
    end = 300
    source.recording.actors[end - 4 : end] = torch.tensor([255, 51, 204, 0], dtype=torch.uint8)[:, None, None]
    window = source.draw(torch.tensor([end]), seeded())
    wanted = [end - 4 * k + 1 for k in range(19, 0, -1)]
    assert window.history.flatten().tolist() == wanted
    assert window.clean.item() == end + 1
    assert end + 1 - window.anchor.item() == 4 * window.age.item() > 0
    torch.testing.assert_close(window.weight, torch.full((1, 1, 1, 16, 20), 1 + 9 * 0.8), msg="the most of the chunk")
    assert torch.equal(window.actions[0, 0].view(4, 7), source.recording.actions[end - 3 : end + 1].float())
    early = source.draw(torch.tensor([11]), seeded())
    assert early.history.flatten().tolist() == [0.0] * 17 + [4.0, 8.0]


def numbered(data_set, history=19):
    """A source whose latents are their own frame's number, counted from 1."""
    recording = load_recordings([data_set], torch.device("cpu"))
    n = len(recording.first)
    latents = torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 1, 1, 1) + 1
    return WindowSource(latents, recording, history=history, chunk=4)


def test_a_pool_plays_on_from_what_was_made(data_set):
    source = numbered(data_set)
    pool = RolloutPool(source, torch.tensor([99]), 3, seeded())
    first = pool.window
    assert first.clean.flatten().tolist() == [100.0] * 3
    for step in range(1, 4):
        pool.advance(-torch.full((3, 1, 1, 1, 1), float(step)), 1e9, seeded(step))
        assert pool.window.clean.flatten().tolist() == [100.0 + 4 * step] * 3
        assert pool.played_B.tolist() == [step] * 3
        assert pool.window.history[0, 0, -step:, 0, 0].tolist() == [-float(k) for k in range(1, step + 1)]
        actions = source.recording.actions[96 + 4 * step : 100 + 4 * step]
        assert torch.equal(pool.window.actions[0, 0].view(4, 7), actions.float())
    assert torch.equal(pool.window.anchor, first.anchor), "a rollout keeps its anchor"
    assert torch.equal(pool.window.age, first.age + 3)
    pool.advance(first.clean, 1.0, seeded(9))
    assert pool.window.clean.flatten().tolist() == [100.0] * 3, "at length 1 every row starts anew"
    assert pool.played_B.tolist() == [0] * 3


def test_a_pool_ends_with_the_episode(data_set):
    source = numbered(data_set)
    last = len(source.latents) - 1
    episodes = source.recording.first.unique()
    assert len(episodes) > 1
    edge = int(episodes[1]) - 1
    for end in (edge, last):
        pool = RolloutPool(source, torch.tensor([end]), 2, seeded())
        pool.advance(pool.window.clean, 1e9, seeded(1))
        assert pool.window.clean.flatten().tolist() == [end + 1.0] * 2


def test_rows_are_near_until_they_have_played_on_for_long(data_set):
    args = SimpleNamespace(seed=0, batch=2, rollout_batch=3, rollout=1e9, near=2)
    batches = Batches(args, numbered(data_set), torch.tensor([99]), ALONE)
    wanted = [[True] * 5, [True] * 5, [True] * 2 + [False] * 3]
    for expected in wanted:
        assert batches.near().tolist() == expected
        batches.advance(batches.pool.window.clean, 1.0, seeded(1))
    args.rollout_batch = 0
    assert Batches(args, numbered(data_set), torch.tensor([99]), ALONE).near().tolist() == [True] * 2


def test_ranks_average_and_agree(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(
        "import pathlib, torch\n"
        "from helios_world.training.ranks import joined\n"
        "with joined('cpu') as rank:\n"
        "    parts = [torch.full((2, 2), float(rank.index)), torch.tensor(4.0 * rank.index)]\n"
        "    rank.average(parts)\n"
        "    assert parts[0].tolist() == [[0.5, 0.5], [0.5, 0.5]] and parts[1] == 2.0, parts\n"
        "    assert rank.agree(rank.index + 0.25) == 0.25\n"
        "    assert (rank.count, rank.leads) == (2, rank.index == 0)\n"
        "    torch.optim.SGD([torch.zeros(1)])\n"
        "left = [(task / 'comm').read_text() for task in pathlib.Path('/proc/self/task').iterdir()]\n"
        "assert not any('gloo' in name for name in left), f'threads of the group outlive it: {left}'\n"
    )
    done = torchrun(str(script))
    assert done.returncode == 0, done.stderr


def test_two_processes_train_one_network(data_set, tmp_path):
    run = tmp_path / "run"
    small = "--preset tiny --device cpu --autoencoder-iterations 3 --autoencoder-batch 2 --iterations 3 --batch 2"
    words = ["--data", str(data_set), "--run", str(run), *small.split(), "--rollout-batch", "2"]
    done = torchrun("-m", "--", "helios_world", "train", *words)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (run / "transformer.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in log] == [0] and log[0]["rollout_1"] > 0
    done = torchrun("-m", "--", "helios_world", "train", *words, processes=3)
    assert "has 2 shards: 3 processes need as many" in done.stderr


def torchrun(*words, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=120, env=environment)


def test_from_the_game_to_a_pack(data_set, tmp_path, capsys):
    """collect, train, export, and the world steps: small networks, a few iterations."""
    run, pack = tmp_path / "run", tmp_path / "pack"
    train = ["train", "--data", str(data_set), "--run", str(run), "--preset", "tiny", "--device", "cpu"]
    small = ["--autoencoder-iterations", "20", "--autoencoder-batch", "4", "--iterations", "20", "--batch", "4"]
    small += ["--rollout-batch", "4"]
    assert main([*train, *small, "--dry-run"]) == 0 and not run.exists()
    assert main([*train, *small]) == 0
    before = (run / "transformer.safetensors").read_bytes()
    assert main([*train, "--stage", "base", "--iterations", "2", "--batch", "4"]) == 0
    assert "starting from" in capsys.readouterr().out, "the same command goes on from the run's weights"
    assert (run / "transformer.safetensors").read_bytes() != before
    export = ["export", "--run", str(run), "--data", str(data_set), "--out", str(pack), "--starts", "2"]
    assert main([*export, "--contrast", "2"]) == 2 and "contrast is 2: must be 0 to 1" in capsys.readouterr().err
    assert main([*export, "--contrast", "0.5"]) == 0
    generator = load_generator(str(pack), dtype="float32")
    assert generator.sampler.contrast == 0.5
    state, shown = generator.reset("maze", seed=1)
    _, frames = generator.step([state], np.zeros((1, 4, 7), np.float32))
    assert frames.shape == (1, 4, 128, 160, 3) and shown.std() > 0
    other = shutil.copytree(run, tmp_path / "other")
    assert (
        main(
            [
                "train",
                "--data",
                str(data_set),
                "--run",
                str(other),
                *train[5:],
                "--stage",
                "base",
                "--iterations",
                "2",
                "--batch",
                "4",
            ]
        )
        == 0
    )
    assert main([*export, "--average", str(other)]) == 0
    mean = load_weights(pack / "transformer.safetensors")["proj_out.weight"]
    parts = [load_weights(folder / "transformer.safetensors")["proj_out.weight"] for folder in (run, other)]
    assert not torch.equal(*parts) and torch.allclose(mean, sum(parts) / 2, atol=float(mean.abs().max()) / 200)
    assert read_pack(str(pack)).provenance["averaged_with"][0]["run"] == str(other)


def test_networks_of_other_shapes_are_not_averaged(tmp_path):
    paths = [tmp_path / f"{width}.safetensors" for width in (2, 3)]
    for width, path in zip((2, 3), paths, strict=True):
        save_weights(path, {"w": torch.full((width, 2), float(width))})
    with pytest.raises(UserError, match=r"3.safetensors holds another network than .*2.safetensors"):
        mean_weights(paths)
    assert torch.equal(mean_weights(paths[:1])["w"], torch.full((2, 2), 2.0))


@pytest.mark.parametrize(
    "words, text",
    [
        (["collect", "--out", "{data}"], "already holds a data set"),
        (["collect", "--out", "{new}", "--scene", "moon"], "unknown scene 'moon': choose from maze"),
        (["collect", "--out", "{new}", "--frames", "1", "--workers", "4"], "each needs at least one"),
        (["train", "--data", "{new}", "--run", "{new}"], "holds no data set"),
        (["train", "--data", "{data}", "--run", "{new}", "--preset", "huge"], "unknown preset 'huge'"),
        (["train", "--data", "{data}", "--run", "{new}", "--stage", "base"], "train the autoencoder first"),
        (["export", "--run", "{new}", "--data", "{data}", "--out", "{new}"], "export needs a finished run"),
    ],
)
def test_mistakes_are_one_line(data_set, tmp_path, capsys, words, text):
    known = {"{data}": str(data_set), "{new}": str(tmp_path / "new")}
    assert main([known.get(word, word) for word in words]) == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error
