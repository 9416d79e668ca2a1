"""The transformer and the autoencoder: who attends to whom, positions, names, the plain path beside the fast one."""

from dataclasses import replace
from math import prod

import pytest
import torch

from helios_world.config import HELIOS_14B, PRESETS, TINY, TINY_AUTOENCODER, TransformerConfig
from helios_world.errors import UserError
from helios_world.model.dit import VideoDiT, cast_weights, embed_patches, initialise, initialise_actions
from helios_world.model.memory import frame_indices, split_memory
from helios_world.model.rope import apply_rope, at_frames, rope_table
from helios_world.model.vae import VideoVAE

CPU = torch.device("cpu")
PASTS = ({}, {"anchor": False}, {"positions": "absolute"}, {"history_sizes": (0, 0, 3)}, {"history_sizes": (0, 2, 0)})


def tiny(**changes) -> VideoDiT:
    """A small network with no zero left in it, so that every input has an effect."""
    model = VideoDiT(replace(TINY, **changes))
    initialise(model, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def inputs(model: VideoDiT, batch: int = 2, frames: int = 1, size=(16, 20), factor: int = 1, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    length = sum(model.config.history_sizes)
    history = torch.randn(batch, 16, length, *size, generator=generator)
    anchor, age = torch.randn(batch, 16, 1, *size, generator=generator), torch.tensor([3, 40])[:batch]
    memory = split_memory(history, anchor, model.config.history_sizes, age)
    x = torch.randn(batch, 16, frames, size[0] // factor, size[1] // factor, generator=generator)
    actions = torch.randint(0, 2, (batch, frames, 28), generator=generator).float()
    return x, torch.tensor([700.0, 300.0])[:batch], memory, actions


@pytest.mark.parametrize("past", PASTS, ids=str)
@pytest.mark.parametrize("factor", [1, 2])
def test_encoded_history_gives_what_the_whole_forward_gives(factor, past):
    model = tiny(**past)
    x, t, memory, actions = inputs(model, factor=factor)
    with torch.no_grad():
        whole = model(x, t, memory, actions)
        ahead = model(x, t, model.encode_history(memory), actions)
    assert whole.shape == x.shape
    assert torch.equal(whole, ahead)


@pytest.mark.parametrize("past", PASTS, ids=str)
def test_restricted_history_is_the_full_sequence_under_a_mask(past):
    """The fast path against one plain sequence in which history rows are forbidden to see noisy columns."""
    model = tiny(**past)
    x, t, memory, actions = inputs(model)
    plain = VideoDiT(replace(model.config, restrict_self_attn=False)).eval()
    plain.load_state_dict(model.state_dict())
    attend = torch.nn.functional.scaled_dot_product_attention

    def masked(q, k, v):
        noisy = x.shape[-2] * x.shape[-1] // prod(model.config.patch_size)
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
        mask[:-noisy, -noisy:] = False
        return attend(q, k, v, attn_mask=mask)

    with torch.no_grad():
        fast = model(x, t, memory, actions)
        unmasked = plain(x, t, memory, actions)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", masked)
            reference = plain(x, t, memory, actions)
    assert torch.allclose(fast, reference, atol=2e-5)
    assert not torch.allclose(fast, unmasked, atol=1e-3), "full attention must differ, or the mask proves nothing"


def test_draws_that_share_a_past_equal_separate_forwards():
    model = tiny()
    x, t, memory, actions = inputs(model)
    more, *_ = inputs(model, seed=1)
    with torch.no_grad():
        context = model.encode_history(memory)
        together = model(
            torch.stack([x, more], 1).flatten(0, 1), t.repeat_interleave(2), context, actions.repeat_interleave(2, 0)
        )
        first, second = model(x, t, context, actions), model(more, t, context, actions)
    assert torch.allclose(together.unflatten(0, (2, 2)), torch.stack([first, second], 1), atol=1e-5)


@pytest.mark.parametrize("positions", ["relative", "absolute"])
def test_every_input_has_an_effect(positions):
    model = tiny(positions=positions)
    x, t, memory, actions = inputs(model)
    parts = memory._fields if positions == "absolute" else memory._fields[:3]
    with torch.no_grad():
        base = model(x, t, memory, actions)
        changed = [
            model(x + 1, t, memory, actions),
            model(x, t + 50, memory, actions),
            model(x, t, memory, 1 - actions),
            *(model(x, t, memory._replace(**{part: getattr(memory, part) + 1}), actions) for part in parts),
        ]
    assert all((base - other).abs().max() > 1e-4 for other in changed)


def test_without_an_anchor_none_is_seen():
    for anchor in (True, False):
        model = tiny(anchor=anchor)
        x, t, memory, actions = inputs(model)
        other = torch.cat([memory.short[:, :, :1] + 1, memory.short[:, :, 1:]], dim=2)
        with torch.no_grad():
            same = torch.equal(model(x, t, memory, actions), model(x, t, memory._replace(short=other), actions))
        assert same != anchor


def test_absolute_positions_are_relative_ones_at_one_age():
    """Where the anchor is as old as the memory is long and one; at other ages, each row is as if it were alone."""
    relative, absolute = tiny(), tiny(positions="absolute")
    x, t, memory, actions = inputs(relative)
    like = torch.full((2,), 1 + sum(TINY.history_sizes))
    with torch.no_grad():
        plain = relative(x, t, memory, actions)
        torch.testing.assert_close(absolute(x, t, memory._replace(anchor_age_B=like), actions), plain)
        found = absolute(x, t, memory, actions)
        rows = [absolute(x[i], t[i], type(memory)(*(part[i] for part in memory)), actions[i]) for i in ([0], [1])]
    assert all((found - plain).abs().amax(dim=(1, 2, 3, 4)) > 1e-4)
    torch.testing.assert_close(found, torch.cat(rows), atol=1e-5, rtol=1e-5)


def test_actions_of_one_frame_reach_that_frame_most():
    """Actions are injected per latent frame: changing those of frame 2 moves frame 2 the most."""
    model = tiny()
    x, t, memory, actions = inputs(model, frames=3)
    other = actions.clone()
    other[:, 2] = 1 - other[:, 2]
    with torch.no_grad():
        difference = (model(x, t, memory, actions) - model(x, t, memory, other)).abs().mean(dim=(0, 1, 3, 4))
    assert difference.argmax() == 2


def test_untrained_actions_change_nothing():
    model = VideoDiT(TINY)
    initialise(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.proj_out.weight.normal_(generator=torch.Generator().manual_seed(1))
        x, t, memory, actions = inputs(model)
        assert torch.equal(model(x, t, memory, actions), model(x, t, memory, torch.zeros_like(actions)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frames", [1, 3, 9])
def test_a_fresh_action_adapter_changes_no_bit(frames, dtype):
    """A model that reads text, as the released ones, with actions and without: the same weights, the same output."""
    plain = tiny(text_dim=12, action_dim=0, restrict_self_attn=False)
    steered = VideoDiT(replace(plain.config, action_dim=28))
    steered.load_state_dict(plain.state_dict(), strict=False)
    initialise_actions(steered, torch.Generator().manual_seed(2))
    for model in (plain, steered):
        cast_weights(model, dtype)
    x, t, memory, actions = inputs(steered, frames=frames)
    text = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(3)).to(dtype)
    x, memory = x.to(dtype), memory._make(part.to(dtype) for part in memory)
    with torch.no_grad():
        assert torch.equal(steered(x, t, memory, actions, text), plain(x, t, memory, None, text))
    steered(x, t, memory, actions, text).float().square().mean().backward()
    gradient = steered.condition_embedder.action_embedder.linear_2.weight.grad
    assert gradient.isfinite().all() and (gradient != 0).any(), "it can be trained away from zero"


def test_rows_of_untrained_actions_keep_every_bit_at_size():
    """Nine rows in one product would be rounded otherwise than one row: wide enough to show it."""
    config = TransformerConfig(num_layers=1, num_attention_heads=4, ffn_dim=8, text_dim=8, action_dim=28)
    model = VideoDiT(config)
    initialise_actions(model, torch.Generator().manual_seed(0))
    t, actions = torch.tensor([500.0]), torch.rand(1, 9, 28, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for found, wanted in zip(model.condition_embedder(t, actions), model.condition_embedder(t, None), strict=True):
            assert found.shape[1] == 9 and torch.equal(found, wanted.expand_as(found))


def test_actions_told_apart_are_the_same_function():
    """How models with text work out their rows, against the plain way of those without."""
    apart = tiny(text_dim=12).condition_embedder
    plain = tiny().condition_embedder
    plain.load_state_dict({k: v for k, v in apart.state_dict().items() if not k.startswith("text_embedder")})
    t, actions = torch.tensor([700.0, 300.0]), torch.randn(2, 9, 28, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        for found, wanted in zip(apart(t, actions), plain(t, actions), strict=True):
            assert found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-5)
            assert not torch.allclose(found[:, 0], found[:, 1], atol=0.1)


def test_frame_indices_are_the_released_ones():
    indices = frame_indices((16, 2, 1), 9)
    assert indices.long == tuple(range(1, 17)) and indices.mid == (17, 18)
    assert indices.short == (0, 19) and indices.noisy == tuple(range(20, 29))


def test_rope_keeps_lengths_and_depends_on_distance_alone():
    cos, sin = rope_table((0, 1, 5, 6), (1, 1), (8, 4, 4), 100.0, (1, 1, 1), CPU)
    x = torch.randn(1, 1, 1, 16, generator=torch.Generator().manual_seed(0)).expand(1, 4, 1, 16)
    q = apply_rope(x, (cos, sin))[0, :, 0]
    assert torch.allclose(q.norm(dim=-1), x[0, :, 0].norm(dim=-1), atol=1e-5)
    assert torch.allclose(q[0] @ q[1], q[2] @ q[3], atol=1e-5)


def test_a_table_moves_to_a_frame_of_each_row():
    frames, sizes = [5, -3], ((4, 6), (4, 6, 6), 100.0, (1, 1, 1), CPU)
    found = at_frames(rope_table((2,), *sizes), torch.tensor(frames), 4, 100.0)
    for row, frame in enumerate(frames):
        for moved, wanted in zip(found, rope_table((frame,), *sizes), strict=True):
            torch.testing.assert_close(moved[row], wanted)


def test_pooled_positions_are_averages_of_what_they_cover():
    fine = rope_table((3, 4), (4, 6), (4, 6, 6), 100.0, (1, 1, 1), CPU)
    coarse = rope_table((3, 4), (4, 6), (4, 6, 6), 100.0, (2, 2, 2), CPU)
    for whole, pooled in zip(fine, coarse, strict=True):
        cells = whole.view(1, 2, 2, 2, 3, 2, 8).mean(dim=(1, 3, 5)).reshape(-1, 8)
        assert torch.allclose(cells, pooled, atol=1e-6)


def test_the_released_model_has_the_released_size():
    """Counted on the meta device: 1,101 tensors and 14.3 billion parameters."""
    with torch.device("meta"):
        model = VideoDiT(HELIOS_14B)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert len(shapes) == 1101
    assert sum(p.numel() for p in model.parameters()) == 14_312_427_584
    assert shapes["patch_long.weight"] == (5120, 16, 4, 8, 8)
    assert shapes["blocks.39.attn2.norm_k.weight"] == (5120,)
    assert shapes["blocks.0.ffn.net.0.proj.weight"] == (13824, 5120)
    assert shapes["condition_embedder.time_proj.weight"] == (30720, 5120)


def test_text_reaches_noisy_tokens():
    model = tiny(text_dim=12, restrict_self_attn=False)
    x, t, memory, actions = inputs(model)
    text = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert (model(x, t, memory, actions, text) - model(x, t, memory, actions, text + 1)).abs().max() > 1e-4


def test_configs_refuse_what_they_do_not_know():
    assert TransformerConfig.from_dict(TINY.to_dict()) == TINY
    with pytest.raises(UserError, match="has no wide: it has"):
        TransformerConfig.from_dict({"wide": 3})
    with pytest.raises(UserError, match="must add up to attention_head_dim"):
        TransformerConfig(rope_dim=(1, 2, 3))
    with pytest.raises(UserError, match="unknown positions 'none': choose from relative, absolute"):
        TransformerConfig(positions="none")
    for sizes in ((0, 0, 0), (4, -1, 1), (4, 1)):
        with pytest.raises(UserError, match="must be three numbers from 0 up, not all of them 0"):
            TransformerConfig(history_sizes=sizes)


def test_autoencoder_shapes_and_bytes():
    vae = VideoVAE(TINY_AUTOENCODER).eval()
    frames = torch.randint(0, 256, (2, 8, 32, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = vae.encode(frames)
        decoded = vae.decode(latents)
        halves = torch.cat([vae.decode(latents[:, :, :1]), vae.decode(latents[:, :, 1:])], dim=1)
    assert latents.shape == (2, 16, 2, 4, 6)
    assert decoded.shape == frames.shape and decoded.dtype == torch.uint8
    assert torch.equal(decoded, halves), "each chunk is decoded on its own"


@pytest.mark.parametrize(
    "name, size", [("patch_short", (2, 16, 20)), ("patch_mid", (2, 16, 20)), ("patch_long", (16, 16, 24))]
)
def test_patches_are_embedded_as_the_convolution_says(name, size):
    embed = getattr(VideoDiT(PRESETS["doom"][0]), name)
    x = torch.randn(2, embed.in_channels, *size, generator=torch.Generator().manual_seed(0))
    tokens = embed_patches(embed, x)
    torch.testing.assert_close(tokens, embed(x).flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bfloat16_is_float32_but_for_rounding():
    """With AMX some convolutions in bfloat16 are plain wrong; a world in it must remember its past too."""
    config = PRESETS["doom"][0]
    model, draw = VideoDiT(config), torch.Generator().manual_seed(0)
    initialise(model, draw)
    memory = split_memory(
        *(torch.randn(1, 16, n, 16, 20, generator=draw) for n in (sum(config.history_sizes), 1)), config.history_sizes
    )
    wanted = model.encode_history(memory)
    found = cast_weights(model, torch.bfloat16).encode_history(type(memory)(*(part.bfloat16() for part in memory[:3])))
    for pair, exact in zip(found.layers, wanted.layers, strict=True):
        for part, other in zip(pair, exact, strict=True):
            assert (part.float() - other).norm() < 0.03 * other.norm()
