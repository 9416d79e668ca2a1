"""The decoder's stage: its losses against a few lines that say the same, and the stage for some steps on a CPU."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helios_world.checkpoint import load_weights
from helios_world.config import TINY, TINY_AUTOENCODER
from helios_world.demos.cli import main
from helios_world.model.dit import VideoDiT
from helios_world.model.vae import VideoVAE
from helios_world.sampling.schedule import pyramid_levels
from helios_world.training import losses
from helios_world.training.data import Coded, WindowSource, encode_recording, load_recordings
from helios_world.training.decoding import Made
from helios_world.training.discriminator import Discriminator
from helios_world.training.losses import (
    PIXEL_NOISE,
    autoencoder_loss,
    decoder_loss,
    discriminator_loss,
)
from helios_world.training.rollouts import RolloutPool


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def frames():
    return torch.randint(0, 256, (2, 4, 32, 48, 3), dtype=torch.uint8, generator=seeded())


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return VideoVAE(TINY_AUTOENCODER), Discriminator(4)


@pytest.fixture
def coded(frames):
    latents = torch.randn(3, 16, 4, 6, generator=seeded(2))
    more = torch.randint(0, 256, (1, 4, 32, 48, 3), dtype=torch.uint8, generator=seeded(3))
    return Coded(torch.cat([frames, more]), latents, torch.tensor([True, True, False]))


def test_a_discriminator_sees_patches_of_whole_chunks(networks):
    _, discriminator = networks
    logits, features = discriminator(torch.zeros(2, 4, 128, 160, 3))
    assert logits.shape == (2, 1, 8, 10)
    assert [tuple(f.shape[1:]) for f in features] == [(64, 64, 80), (128, 32, 40), (256, 16, 20), (256, 8, 10)]


def test_without_an_adversary_the_decoder_has_the_autoencoders_error(networks, frames):
    vae, discriminator = networks
    mean, log_variance = vae.posterior(frames.float() / 127.5 - 1)
    latents = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=seeded(1))
    near = torch.ones(2, dtype=torch.bool)
    loss, parts = decoder_loss(vae, discriminator, Coded(frames, latents.detach(), near), adversary=False)
    whole, figures = autoencoder_loss(vae, frames, seeded(1))
    assert loss.item() == pytest.approx((whole - 1e-4 * figures["kl"]).item(), rel=1e-6)
    assert parts["psnr_db"] == figures["psnr_db"] and "fooled" not in parts


@pytest.mark.parametrize("most", [losses.MOST_WEIGHT, 0.1])
def test_decoder_loss_equals_its_equation(networks, coded, monkeypatch, most):
    monkeypatch.setattr(losses, "MOST_WEIGHT", most)
    vae, discriminator = networks
    loss, parts = decoder_loss(vae, discriminator, coded, adversary=True)
    x = coded.frames.float() / 127.5 - 1
    y = vae.decode_raw(coded.latents).detach().requires_grad_()
    error, _ = decoder_loss(vae, discriminator, coded, adversary=False)
    gap = y[:2] - x[:2]  # the third row has only to look real
    edges = gap.diff(dim=2).abs().mean() + gap.diff(dim=3).abs().mean()
    (logits, made), (of_real, real) = discriminator(y), discriminator(x)
    fooled = F.softplus(of_real - logits).mean()
    likeness = sum((f[:2] - g[:2]).abs().mean() for f, g in zip(made, real, strict=True)) / 4
    errors = gap.abs().mean() + 0.5 * edges + gap.square().mean()
    assert error.item() == pytest.approx(errors.item(), rel=1e-5)
    usual, *others = (torch.autograd.grad(part, y, retain_graph=True)[0].norm() for part in (errors, fooled, likeness))
    a, b = (usual / other for other in others)
    a = a.clamp(max=most)
    assert float(parts["weight"]) == pytest.approx(a.item(), rel=1e-2)
    assert loss.item() == pytest.approx((error + a * fooled + 0.25 * b * likeness).item(), rel=1e-2)
    loss.backward()
    assert all(p.grad is None for p in vae.encoder.parameters()), "latents must keep their meaning"
    assert all(p.grad is not None for p in vae.decoder.parameters())


def test_discriminator_loss_equals_its_equation(networks, coded):
    vae, discriminator = networks
    loss, parts = discriminator_loss(vae, discriminator, coded, seeded(1))
    x = coded.frames[:2].float() / 127.5 - 1  # the third row shows something else than was recorded
    y = vae.decode_raw(coded.latents[:2])
    shaken = x + PIXEL_NOISE * torch.randn(x.shape, generator=seeded(1))
    real, made, near = (discriminator(z)[0] for z in (x, y, shaken))
    penalty = ((real - near) / PIXEL_NOISE).square().mean()
    wanted = F.softplus(made - real).mean() + 0.001 * penalty
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-3)
    assert float(parts["penalty"]) == pytest.approx(penalty.item(), rel=1e-3)


def test_a_discriminator_learns_what_tells_a_picture_from_itself_decoded(networks, frames, monkeypatch):
    vae, discriminator = networks
    shown = (torch.rand(8, 1, 1, 1, 3, generator=seeded(4)) * 200).byte() + frames[:1] // 8  # of eight colours, grained
    coded = Coded(shown, torch.zeros(8, 16, 4, 6), torch.ones(8, dtype=torch.bool))
    blurred = F.avg_pool3d(shown.float().movedim(-1, 1), (1, 5, 5), 1, (0, 2, 2)).movedim(1, -1) / 127.5 - 1
    monkeypatch.setattr(vae, "decode_raw", lambda latents: blurred)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-3)
    for step in range(40):
        loss, parts = discriminator_loss(vae, discriminator, coded, seeded(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert parts["told"] > 0.9 and parts["versus"] < 0.3


def test_the_stage_sharpens_the_decoder_and_leaves_latents_alone(tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    assert main(["collect", "--out", str(data), "--frames", "300", "--workers", "1", "--seed", "5"]) == 0
    common = ["train", "--data", str(data), "--run", str(run), "--preset", "tiny", "--device", "cpu"]
    short = ["--autoencoder-iterations", "20", "--autoencoder-batch", "2"]
    assert main([*common, "--stage", "autoencoder", *short]) == 0
    before = load_weights(run / "vae.safetensors")
    assert main([*common, "--stage", "decoder", *short]) == 0
    after = load_weights(run / "vae.safetensors")
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved and all(name.startswith("decoder.") for name in moved)
    assert main([*common, "--stage", "decoder", *short]) == 0  # goes on with the discriminator it has
    first, again = (json.loads(x) for x in (run / "discriminator.jsonl").read_text().splitlines())
    assert first["versus"] > 0 and again["penalty"] >= 0


def test_the_stage_learns_from_what_the_transformer_makes(tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    assert main(["collect", "--out", str(data), "--frames", "300", "--workers", "1", "--seed", "5"]) == 0
    common = ["train", "--data", str(data), "--run", str(run), "--preset", "tiny", "--device", "cpu"]
    common += ["--autoencoder-iterations", "4", "--autoencoder-batch", "2", "--made", "3", "--rollout", "2"]
    assert main([*common, "--stage", "autoencoder"]) == 0
    assert main([*common, "--stage", "decoder"]) == 2
    assert "transformer.safetensors is missing: --made needs a transformer" in capsys.readouterr().err
    assert main([*common, "--stage", "base", "--batch", "2", "--iterations", "1", "--rollout-batch", "0"]) == 0
    before = {name: load_weights(run / f"{name}.safetensors") for name in ("vae", "transformer")}
    assert main([*common, "--stage", "decoder", "--adversary-from", "0"]) == 0
    after = {name: load_weights(run / f"{name}.safetensors") for name in before}
    assert all(np.array_equal(x, after["transformer"][name]) for name, x in before["transformer"].items())
    moved = {name for name, x in before["vae"].items() if not np.array_equal(x, after["vae"][name])}
    assert moved and all(name.startswith("decoder.") for name in moved)


def test_chunks_of_its_own_are_made_beside_the_recorded_frames(tmp_path):
    data = tmp_path / "data"
    assert main(["collect", "--out", str(data), "--frames", "300", "--workers", "1", "--seed", "5"]) == 0
    torch.manual_seed(0)
    recording, vae, network = load_recordings([data], torch.device("cpu")), VideoVAE(TINY_AUTOENCODER), VideoDiT(TINY)
    source = WindowSource(encode_recording(vae, recording), recording, sum(TINY.history_sizes), 4)
    pool = RolloutPool(source, recording.chunk_ends(4, chunks_before=1), 3, seeded())
    made, ends, history = Made(vae, recording, network, pool, pyramid_levels(2)), pool.end_B, pool.window.history
    coded = made.draw(1e9, seeded(1))
    assert coded.near.all() and torch.equal(coded.frames, recording.chunks(ends, 4))
    assert torch.equal(pool.window.history[:, :, :-1], history[:, :, 1:])
    torch.testing.assert_close(
        coded.latents, vae.raw(pool.window.history[:, :, -1:].float())[:, :, 0], rtol=0, atol=0.01
    )
    for _ in range(2):
        coded = made.draw(1e9, seeded(2))
    assert not coded.near.any(), "from the third chunk on it is somewhere else"
