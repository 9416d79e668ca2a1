"""The decoder's stage: its losses against a few lines that say the same, and the stage for some steps on a CPU."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helios_world.checkpoint import load_weights
from helios_world.config import TINY_AUTOENCODER
from helios_world.demos.cli import main
from helios_world.model.vae import VideoVAE
from helios_world.training import losses
from helios_world.training.discriminator import Discriminator
from helios_world.training.losses import (
    PIXEL_NOISE,
    autoencoder_loss,
    decoder_loss,
    discriminator_loss,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def frames():
    return torch.randint(0, 256, (2, 4, 32, 48, 3), dtype=torch.uint8, generator=seeded())


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return VideoVAE(TINY_AUTOENCODER), Discriminator(4)


def decoded(vae, x, seed):
    mean, log_variance = vae.posterior(x)
    return vae.decode_raw(mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=seeded(seed)))


def test_a_discriminator_sees_patches_of_whole_chunks(networks):
    _, discriminator = networks
    logits, features = discriminator(torch.zeros(2, 4, 128, 160, 3))
    assert logits.shape == (2, 1, 8, 10)
    assert [tuple(f.shape[1:]) for f in features] == [(64, 64, 80), (128, 32, 40), (256, 16, 20), (256, 8, 10)]


def test_without_an_adversary_the_decoder_has_the_autoencoders_error(networks, frames):
    vae, discriminator = networks
    loss, parts = decoder_loss(vae, discriminator, frames, seeded(1), adversary=False)
    whole, figures = autoencoder_loss(vae, frames, seeded(1))
    assert loss.item() == pytest.approx((whole - 1e-4 * figures["kl"]).item(), rel=1e-6)
    assert parts["psnr_db"] == figures["psnr_db"] and "fooled" not in parts


@pytest.mark.parametrize("most", [losses.MOST_WEIGHT, 0.1])
def test_decoder_loss_equals_its_equation(networks, frames, monkeypatch, most):
    monkeypatch.setattr(losses, "MOST_WEIGHT", most)
    vae, discriminator = networks
    loss, parts = decoder_loss(vae, discriminator, frames, seeded(1), adversary=True)
    x = frames.float() / 127.5 - 1
    y = decoded(vae, x, 1).detach().requires_grad_()
    error, _ = decoder_loss(vae, discriminator, frames, seeded(1), adversary=False)
    edges = (y - x).diff(dim=2).abs().mean() + (y - x).diff(dim=3).abs().mean()
    (logits, made), (_, real) = discriminator(y), discriminator(x)
    fooled = F.softplus(-logits).mean()
    likeness = sum((f - g).abs().mean() for f, g in zip(made, real, strict=True)) / 4
    errors = (y - x).abs().mean() + 0.5 * edges + (y - x).square().mean()
    usual, *others = (torch.autograd.grad(part, y, retain_graph=True)[0].norm() for part in (errors, fooled, likeness))
    a, b = (usual / other for other in others)
    a = a.clamp(max=most)
    assert float(parts["weight"]) == pytest.approx(a.item(), rel=1e-2)
    assert loss.item() == pytest.approx((error + a * fooled + 0.25 * b * likeness).item(), rel=1e-2)
    loss.backward()
    assert all(p.grad is None for p in vae.encoder.parameters()), "latents must keep their meaning"
    assert all(p.grad is not None for p in vae.decoder.parameters())


def test_discriminator_loss_equals_its_equation(networks, frames):
    vae, discriminator = networks
    loss, parts = discriminator_loss(vae, discriminator, frames, seeded(1))
    x, draw = frames.float() / 127.5 - 1, seeded(1)
    noise = torch.randn(vae.posterior(x)[0].shape, generator=draw)
    mean, log_variance = vae.posterior(x)
    y = vae.decode_raw(mean + (log_variance / 2).exp() * noise)
    shaken = x + PIXEL_NOISE * torch.randn(x.shape, generator=draw)
    real, made, near = (discriminator(z)[0] for z in (x, y, shaken))
    penalty = ((real - near) / PIXEL_NOISE).square().mean()
    wanted = F.softplus(made).mean() + F.softplus(-real).mean() + 0.01 * penalty
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-3)
    assert float(parts["penalty"]) == pytest.approx(penalty.item(), rel=1e-3)


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
