"""The transformer against diffusers' own, with the same random weights and inputs."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from helios_world.config import TransformerConfig
from helios_world.model import dit
from helios_world.model.dit import VideoDiT, cast_weights
from helios_world.model.memory import Memory, split_memory

TOLERANCE = 1e-5  # of the largest value; measured: none at these sizes, 4e-7 at others
BF16_BAND = 0.01  # error over size, as root mean squares; measured: 0.0058 to 0.0064, the reference 0.0060 to 0.0067


def twin(model, **ours) -> VideoDiT:
    """Our network with the sizes and the weights of the reference."""
    names = TransformerConfig.__dataclass_fields__.keys() & dict(model.config).keys()
    copy = VideoDiT(TransformerConfig(**{name: model.config[name] for name in names}, **ours))
    copy.load_state_dict(model.state_dict())
    return copy.eval().requires_grad_(False)


def inputs(size, factor=1, frames=9, sizes=(16, 2, 1), seed=0):
    """Noisy chunk at 1/factor of `size`, time step, memory and text, for two samples."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(2, *shape, generator=generator)

    memory = split_memory(draw(16, sum(sizes), *size), draw(16, 1, *size), sizes)
    return draw(16, frames, size[0] // factor, size[1] // factor), torch.tensor([743.25, 1.5]), memory, draw(7, 12)


def worst(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def spread(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.float() - wanted).norm() / wanted.norm()).item()


def ours_and_theirs(reference, changes=None, **shape) -> tuple[torch.Tensor, torch.Tensor]:
    theirs = reference.build(**(changes or {}))
    sizes = shape.get("sizes", (16, 2, 1))
    x, t, memory, text = inputs(**shape)
    found = twin(theirs, history_sizes=sizes)(x, t, memory, text_BLD=text)
    return found, reference.velocity(theirs, x, t, memory, text, sizes)


@pytest.mark.parametrize("frames", [2, 9])
@pytest.mark.parametrize("factor", [4, 2, 1])
def test_all_pyramid_resolutions(reference, factor, frames):
    assert worst(*ours_and_theirs(reference, size=(16, 24), factor=factor, frames=frames)) < TOLERANCE


@pytest.mark.parametrize("frames", range(1, 10))
@pytest.mark.parametrize("size", [(6, 10), (10, 14), (12, 20)])
def test_odd_token_counts_and_every_chunk_length(reference, size, frames):
    """Sizes at which coarse patches, and the positions of them, are filled up by repetition."""
    assert worst(*ours_and_theirs(reference, size=size, frames=frames)) < TOLERANCE


def test_equality_is_no_accident(reference, monkeypatch):
    """Positions off by one frame, the least of mistakes, are far outside the tolerance."""
    right = dit.frame_indices
    monkeypatch.setattr(
        dit,
        "frame_indices",
        lambda sizes, noisy: right(sizes, noisy + 1)._replace(noisy=right(sizes, noisy + 1).noisy[1:]),
    )
    assert worst(*ours_and_theirs(reference, size=(6, 10), frames=3)) > 1e-2


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance_cross_attn": False},
        {"zero_history_timestep": False},
        {"is_amplify_history": True},
        {"is_amplify_history": True, "history_scale_mode": "scalar"},
        {"num_attention_heads": 3, "attention_head_dim": 12, "rope_dim": (6, 2, 4), "num_layers": 3, "eps": 1e-4},
    ],
    ids=str,
)
def test_every_flag(reference, changes):
    found, wanted = ours_and_theirs(reference, changes, size=(6, 10), frames=3)
    assert worst(found, wanted) < TOLERANCE
    plain, _ = ours_and_theirs(reference, size=(6, 10), frames=3)
    assert worst(found, plain) > 1e-3, "the flag must matter, or the test proves nothing"


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    frames=st.integers(1, 9),
    sizes=st.tuples(st.integers(1, 17), st.integers(1, 4), st.integers(1, 3)),
    seed=st.integers(0, 99),
)
def test_any_shape_and_history_length(reference, size, frames, sizes, seed):
    size = (2 * size[0], 2 * size[1])
    assert worst(*ours_and_theirs(reference, size=size, frames=frames, sizes=sizes, seed=seed)) < TOLERANCE


@pytest.mark.parametrize(("size", "factor", "frames"), [((16, 24), 2, 9), ((6, 10), 1, 3), ((16, 24), 4, 1)])
def test_bfloat16_stays_within_its_band(reference, size, factor, frames):
    theirs = reference.build()
    x, t, memory, text = inputs(size, factor, frames)
    exact = reference.velocity(theirs, x, t, memory, text)
    ours = cast_weights(twin(theirs), torch.bfloat16)
    half = [part.bfloat16() for part in (x, *memory[:3], text)]
    found = ours(half[0], t, Memory(*half[1:4]), text_BLD=half[4])
    for name, parameter in theirs.named_parameters():
        parameter.data = parameter.to(ours.get_parameter(name).dtype)
    for module in theirs.modules():  # the reference keeps these two in bfloat16
        if isinstance(module, torch.nn.RMSNorm):
            module.bfloat16()
    like = reference.velocity(theirs, half[0], t, Memory(*half[1:4]), half[4])
    assert found.dtype == torch.bfloat16
    assert spread(found, exact) < BF16_BAND
    assert spread(found, exact) < 1.25 * spread(like, exact), "as near to float32 as the reference is"


def test_what_few_numbers_hinge_on_stays_float32(reference):
    ours = cast_weights(twin(reference.build(is_amplify_history=True)), torch.bfloat16)
    kept = {name for name, weight in ours.named_parameters() if weight.dtype == torch.float32}
    cast = {name for name, weight in ours.named_parameters() if weight.dtype == torch.bfloat16}
    words = ("time_embedder", "scale_shift_table", "norm2", "norm_q", "norm_k", "history_key_scale")
    assert kept == {name for name in kept | cast if any(word in name for word in words)} and len(kept) == 21
    assert ours.dtype == torch.bfloat16


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that was made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [part for part in (out if isinstance(out, tuple) else (out,)) if isinstance(part, torch.Tensor)]
        self.numbers = max([self.numbers, *(part.numel() for part in made)])
        return out


@pytest.mark.parametrize("actions", [False, True])
def test_modulation_is_never_spread_over_the_tokens(reference, actions):
    """Six vectors per token would be by far the largest tensor of the network."""
    model = VideoDiT(TransformerConfig(**reference.settings, action_dim=4 * actions)).requires_grad_(False)
    x, t, memory, text = inputs((16, 24))
    tokens = 2 * (9 * 8 * 12 + 2 * 8 * 12 + 4 * 6 + 4 * 2 * 3)
    with Largest() as largest:
        model(x, t, memory, torch.ones(2, 9, 4) if actions else None, text)
    assert largest.numbers < 6 * tokens * model.config.width


def test_a_history_worked_out_ahead_is_amplified_too(reference):
    """Restricted, amplified: the context gives what the one sequence under a mask gives."""
    theirs = reference.build(is_amplify_history=True)
    full = twin(theirs)
    fast = VideoDiT(replace(full.config, restrict_self_attn=True)).requires_grad_(False)
    fast.load_state_dict(full.state_dict())
    x, t, memory, text = inputs((6, 10), frames=2)
    attend = torch.nn.functional.scaled_dot_product_attention

    def masked(q, k, v):
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
        if q.shape[-2] == k.shape[-2]:
            mask[: -2 * 15, -2 * 15 :] = False
        return attend(q, k, v, attn_mask=mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", masked)
        wanted = full(x, t, memory, text_BLD=text)
    assert worst(fast(x, t, fast.encode_history(memory), text_BLD=text), wanted) < TOLERANCE
