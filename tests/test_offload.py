"""Streamed blocks: the same output, and never more than two blocks in place."""

import copy

import pytest
import torch

from helios_world.config import TransformerConfig
from helios_world.model.dit import VideoDiT, cast_weights
from helios_world.model.memory import split_memory
from helios_world.model.offload import stream_blocks

SIZES = {"num_attention_heads": 2, "attention_head_dim": 16, "rope_dim": (4, 6, 6), "ffn_dim": 40, "text_dim": 12}
GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")])


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def small(layers: int, **changes) -> VideoDiT:
    model = VideoDiT(TransformerConfig(num_layers=layers, **{**SIZES, **changes})).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(layers)
    for parameter in model.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return cast_weights(model, torch.bfloat16)


def inputs(device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(1, *shape, generator=generator).bfloat16().to(device)

    memory = split_memory(draw(16, 19, 6, 10), draw(16, 1, 6, 10), (16, 2, 1))
    return draw(16, 2, 6, 10), torch.tensor([500.0], device=device), memory, None, draw(5, 12)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_streamed_blocks_change_no_bit(layers, device):
    model = small(layers)
    whole = copy.deepcopy(model).to(device)
    streamed = stream_blocks(model, device)
    for seed in range(3):  # what a forward leaves in place must serve the next one
        x = inputs(device, seed)
        assert torch.equal(streamed(*x), whole(*x))


def test_a_history_encoded_ahead_streams_too():
    model = small(3, restrict_self_attn=True)
    whole = copy.deepcopy(model)
    streamed = stream_blocks(model, "cpu")
    x, t, memory, actions, text = inputs()
    assert torch.equal(
        streamed(x, t, streamed.encode_history(memory), actions, text),
        whole(x, t, whole.encode_history(memory), actions, text),
    )


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_at_most_two_blocks_are_in_place(device):
    """All weights that compute lie in two pieces of memory, and neither is where the blocks live."""
    streamed = stream_blocks(small(5), device)
    places = set()
    for block in streamed.blocks:
        pieces = {weight.untyped_storage().data_ptr() for weight in block.parameters()}
        assert len(pieces) == 1 and all(weight.device.type == device for weight in block.parameters())
        places |= pieces
    homes = {weight.untyped_storage().data_ptr() for weight in streamed.blocks.parameters()}
    assert len(places) == 2 and len(homes) == 5 and not places & homes
    assert all(weight.device.type == "cpu" for weight in streamed.blocks.parameters())


def test_names_weights_and_types_stay():
    model = small(3)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    after = stream_blocks(model, "cpu").state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) and after[name].dtype == before[name].dtype for name in before)


def test_a_forward_that_is_broken_off_spoils_nothing():
    model = small(4)
    whole = copy.deepcopy(model)
    streamed = stream_blocks(model, "cpu")
    x = inputs()
    for index, _ in enumerate(streamed.blocks):
        if index == 2:
            break
    assert torch.equal(streamed(*x), whole(*x))


def test_weights_move_once():
    """The memory of a block before streaming is given back: what is held is one copy and the two places."""
    model = small(3, ffn_dim=2048)
    old = {weight.untyped_storage().data_ptr() for weight in model.blocks.parameters()}
    size = sum(weight.nbytes for weight in model.blocks.parameters())
    blocks = stream_blocks(model, "cpu").blocks
    held = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in blocks.parameters()}
    assert not held.keys() & old
    assert size <= sum(held.values()) < 1.2 * size


def test_training_is_refused():
    streamed = stream_blocks(small(2), "cpu")
    with torch.inference_mode(False), torch.enable_grad(), pytest.raises(AssertionError, match="before a backward"):
        next(iter(streamed.blocks))
