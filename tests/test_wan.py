"""The Wan autoencoder against diffusers' own encode and decode, with small random weights."""

import sys

import pytest
import torch

from helios_world.clip import frames_of
from helios_world.errors import MissingExtra, PackError, UserError
from helios_world.model.wan import WanVAE
from tests.checkpoints import tiny_vae


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A `vae` folder that diffusers wrote."""
    path = tmp_path_factory.mktemp("checkpoint") / "vae"
    tiny_vae().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def vae(folder):
    return WanVAE.load(folder)


def random_frames(batch, frames, seed=1, height=32, width=48):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, frames, height, width, 3), generator=generator, dtype=torch.uint8)


def released_encode(network, frames, generator=None):
    """The pipelines' arithmetic: pixels in -1..1, and (raw - mean) * (1 / std)."""
    video = (frames.float() / 255 * 2 - 1).permute(0, 4, 1, 2, 3)
    posterior = network.encode(video).latent_dist
    raw = posterior.mode() if generator is None else posterior.sample(generator=generator)
    mean, inverse = released_statistics(network)
    return (raw - mean) * inverse


def released_decode(network, latents):
    mean, inverse = released_statistics(network)
    return network.decode(latents / inverse + mean).sample.permute(0, 2, 3, 4, 1)


def released_statistics(network):
    mean, std = (
        torch.tensor(network.config[name])[None, :, None, None, None] for name in ("latents_mean", "latents_std")
    )
    return mean, 1 / std


@pytest.mark.parametrize("latents", range(1, 10))
def test_every_chunk_length_equals_diffusers_both_ways(vae, latents):
    frames = random_frames(1, frames_of(latents))
    ours, theirs = vae.encode(frames), released_encode(tiny_vae(), frames)
    assert ours.shape == (1, 16, latents, 4, 6) and ours.dtype == torch.float32
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-6 * theirs.abs().max())
    noise = torch.randn(1, 16, latents, 4, 6, generator=torch.Generator().manual_seed(2))
    video, shown = released_decode(tiny_vae(), noise), vae.decode(noise)
    assert shown.shape == (1, frames_of(latents), 32, 48, 3) and shown.dtype == torch.uint8
    assert shown.float().std() > 5, "a picture, not one grey"
    assert (shown.float() - (video + 1) * 127.5).abs().max() <= 0.5 + 1e-3, "rounded to the nearest byte"


def test_the_posterior_can_be_drawn_from(vae):
    frames = random_frames(2, 5)
    ours = vae.encode(frames, torch.Generator().manual_seed(3))
    theirs = released_encode(tiny_vae(), frames, torch.Generator().manual_seed(3))
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-6 * theirs.abs().max())
    assert (ours - vae.encode(frames)).abs().max() > 0.1


def test_the_statistics_are_those_of_the_config(tmp_path):
    mean, std = [0.5] * 16, [4.0] * 16
    tiny_vae(latents_mean=mean, latents_std=std).save_pretrained(tmp_path)
    plain = tiny_vae().encode((random_frames(1, 1).float() / 127.5 - 1).permute(0, 4, 1, 2, 3)).latent_dist.mode()
    assert torch.allclose(WanVAE.load(tmp_path).encode(random_frames(1, 1)), (plain - 0.5) / 4, atol=1e-6)


def test_a_batch_equals_singles(vae):
    frames = random_frames(2, 9)
    latents = vae.encode(frames)
    for row in range(2):
        assert torch.allclose(latents[row], vae.encode(frames[row : row + 1])[0], atol=1e-5)
    shown = vae.decode(latents)
    singles = torch.cat([vae.decode(latents[row : row + 1]) for row in range(2)])
    assert (shown.int() - singles.int()).abs().max() <= 1


def test_chunks_know_nothing_of_each_other(vae):
    """The first-frame rule: a chunk decodes the same whatever was decoded before it."""
    first, second = torch.randn(2, 1, 16, 3, 4, 6, generator=torch.Generator().manual_seed(4))
    alone = vae.decode(second)
    vae.decode(first)
    assert torch.equal(vae.decode(second), alone)
    together = vae.decode(torch.cat([first, second], dim=2))
    assert together.shape[1] == 21 and alone.shape[1] == 9, "as one clip it would be another video"
    image = vae.decode(second[:, :, :1])
    assert torch.equal(image[:, 0], alone[:, 0]), "the first latent alone is the first frame"


def test_bfloat16_is_near_float32(folder, vae):
    frames = random_frames(1, 5)
    small = WanVAE.load(folder, dtype=torch.bfloat16)
    exact, rounded = vae.encode(frames), small.encode(frames)
    assert rounded.dtype == torch.float32 and small.dtype == torch.bfloat16
    assert (rounded - exact).norm() / exact.norm() < 0.03
    off = (small.decode(exact).float() - vae.decode(exact).float()).square().mean().sqrt()
    assert off < 2.0, "of 255"


@pytest.mark.parametrize("frames", [0, 2, 4, 6, 32])
def test_frames_that_make_no_chunk_are_refused(vae, frames):
    with pytest.raises(UserError, match=rf"a chunk of {frames} frames: must be 1, 5, 9, 13"):
        vae.encode(random_frames(1, frames))


def test_sizes_that_do_not_fit_are_refused(vae):
    with pytest.raises(UserError, match="frames are 30x48: height and width must be multiples of 8"):
        vae.encode(random_frames(1, 1, height=30))
    for shape in [(1, 8, 3, 4, 6), (16, 3, 4, 6), (1, 16, 0, 4, 6)]:
        with pytest.raises(UserError, match=r"must be \(batch, 16, 1 or more, height, width\)"):
            vae.decode(torch.zeros(shape))


def test_a_folder_that_is_no_wan_autoencoder_is_refused(folder, tmp_path, capfd):
    from safetensors.torch import load_file, save_file

    with pytest.raises(PackError, match="it has no config"):
        WanVAE.load(tmp_path / "nowhere")
    copy = tmp_path / "vae"
    tiny_vae().save_pretrained(copy)
    path = copy / "diffusion_pytorch_model.safetensors"
    good = load_file(path)
    lacks = {name: tensor for name, tensor in good.items() if name != "quant_conv.weight"}
    for weights, text in [
        (lacks, "lacks tensor quant_conv.weight"),
        ({**good, "strange": torch.zeros(1)}, "holds tensor strange"),
        ({**good, "quant_conv.bias": torch.zeros(3)}, r"tensor quant_conv.bias is \(3,\): must be \(32,\)"),
    ]:
        save_file(weights, path, metadata={"format": "pt"})
        with pytest.raises(PackError, match=text) as caught:
            WanVAE.load(copy)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"no weights")
    with pytest.raises(PackError, match="damaged"):
        WanVAE.load(copy)
    path.unlink()
    with pytest.raises(PackError, match="damaged"):
        WanVAE.load(copy)
    assert capfd.readouterr() == ("", ""), "what the library has to say is in our one line"


def test_without_diffusers_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtra, match=r"diffusers is not installed: pip install 'helios-world\[helios\]'"):
        WanVAE.load(folder)
