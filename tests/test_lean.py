"""The lean way of inference on a CPU beside the plain one, which is taken wherever something may be learnt."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from helios_world.config import DOOM, TINY, TransformerConfig
from helios_world.model import lean
from helios_world.model.dit import VideoDiT, cast_weights, initialise
from helios_world.model.memory import Memory, split_memory
from helios_world.training.lora import add_adapters

FLOAT32_BAND, BF16_BAND = 3e-6, 0.01  # error over size, as root mean squares; measured: up to 6e-7 and 0.0059
WIDE = replace(DOOM, num_layers=2)
TEXT = replace(TINY, text_dim=12, is_amplify_history=True)
WHOLE = replace(TEXT, restrict_self_attn=False)


def drawn(config: TransformerConfig, batch: int, frames: int, dtype: torch.dtype) -> tuple[VideoDiT, tuple]:
    """A network with no zero left in it, and its inputs."""
    draw = torch.Generator().manual_seed(0)
    model = VideoDiT(config)
    initialise(model, draw)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    history, anchor, x = (
        torch.randn(batch, 16, n, 8, 12, generator=draw).to(dtype) for n in (sum(config.history_sizes), 1, frames)
    )
    memory = split_memory(history, anchor, config.history_sizes)
    actions = torch.rand(batch, frames, config.action_dim, generator=draw)
    text = torch.randn(batch, 5, config.text_dim, generator=draw).to(dtype) if config.text_dim else None
    return cast_weights(model, dtype), (x, torch.linspace(300, 900, batch), memory, actions, text)


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


@pytest.mark.parametrize("config", [WIDE, TEXT, WHOLE], ids=["wide", "text", "whole"])
@pytest.mark.parametrize("batch, frames", [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("dtype, limit", [(torch.float32, FLOAT32_BAND), (torch.bfloat16, BF16_BAND)])
def test_lean_is_plain_but_for_rounding(config, batch, frames, dtype, limit):
    model, inputs = drawn(config, batch, frames, dtype)
    exact, precise = drawn(config, batch, frames, torch.float32)
    plain, wanted = model(*inputs), exact(*precise)
    with torch.no_grad():
        found = model(*inputs)
    assert plain.requires_grad and not torch.equal(found, plain), "two ways, or the test proves nothing"
    assert off(found, plain) < limit
    if dtype == torch.bfloat16:
        assert off(found, wanted) < 1.15 * off(plain, wanted), "as near to float32 as the plain way"


@pytest.mark.parametrize("dtype, limit", [(torch.float32, 1e-6), (torch.bfloat16, 0.004)])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("tokens", [(3, 7), (1, 1), (2, 0), (5,)])
def test_products(dtype, limit, gelu, tokens, monkeypatch):
    layer = torch.nn.Linear(24, 40).to(dtype)
    x = torch.randn(*tokens, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = F.linear(x.double(), layer.weight.double(), layer.bias.double())
    wanted = F.gelu(wanted, approximate="tanh") if gelu else wanted
    for has in (lean._has_onednn, lambda dtype: False):
        monkeypatch.setattr(lean, "_has_onednn", has)
        with torch.no_grad():
            found = lean.linear(layer, x, gelu=gelu)
        assert found.dtype == dtype and found.shape == wanted.shape
        assert not x.numel() or off(found, wanted) < limit


def test_adapters_are_heeded():
    model, inputs = drawn(TINY, 1, 1, torch.float32)
    add_adapters(model, 2, 0)
    with torch.no_grad():
        before = model(*inputs)
        for name, weight in model.named_parameters():
            if name.endswith("lora_up"):
                weight.fill_(0.1)
        found = model(*inputs)
    assert off(found, before) > 1e-3
    assert off(found, model(*inputs)) < FLOAT32_BAND


def test_what_is_learnt_cast_or_elsewhere_goes_the_plain_way():
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    assert not lean.serves(x, layer)
    with torch.no_grad():
        assert lean.serves(x, layer)
        assert not lean.serves(x.double(), layer.double())
        assert not lean.serves(x.to("meta"))
        assert not lean.serves(x.bfloat16(), layer.float())
        with torch.autocast("cpu", torch.bfloat16):
            assert not lean.serves(x, layer)


def test_a_context_keeps_no_more_than_its_keys_and_values():
    model, inputs = drawn(TINY, 1, 1, torch.float32)
    memory: Memory = inputs[2]
    with torch.no_grad():
        context = model.encode_history(memory)
    parts = [part for layer in context.layers for part in layer]
    assert sum(part.untyped_storage().nbytes() for part in parts) == sum(part.nbytes for part in parts)
