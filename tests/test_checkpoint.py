"""Weights on disk: exact or int8, whole or refused."""

import pytest
import torch
from torch import nn

from helios_world.checkpoint import dequantise, load_into, load_weights, quantise, save_weights
from helios_world.errors import PackError


def test_float32_comes_back_exactly(tmp_path):
    weights = {"a": torch.randn(3, 5), "b": torch.randn(7)}
    save_weights(tmp_path / "w.safetensors", weights)
    loaded = load_weights(tmp_path / "w.safetensors")
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_int8_is_small_and_near(tmp_path):
    weights = {"matrix": torch.randn(64, 256), "conv": torch.randn(8, 4, 3, 3), "bias": torch.randn(64)}
    save_weights(tmp_path / "exact.safetensors", weights)
    save_weights(tmp_path / "int8.safetensors", weights, int8=True)
    loaded = load_weights(tmp_path / "int8.safetensors")
    assert (tmp_path / "int8.safetensors").stat().st_size < 0.3 * (tmp_path / "exact.safetensors").stat().st_size
    assert torch.equal(loaded["bias"], weights["bias"])
    for name in ("matrix", "conv"):
        bound = weights[name].flatten(1).abs().amax(1) / 254 * 1.001
        assert ((loaded[name] - weights[name]).flatten(1).abs().amax(1) <= bound).all()


def test_quantise_keeps_zeros():
    values, scale = quantise(torch.zeros(3, 4))
    assert torch.equal(dequantise(values, scale), torch.zeros(3, 4))


@pytest.mark.parametrize(
    "weights, text",
    [
        ({"weight": torch.zeros(2, 3)}, "lacks tensor bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "more": torch.zeros(1)}, "holds tensor more"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"tensor weight is \(2, 4\): must be \(2, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, weights, text):
    save_weights(tmp_path / "w.safetensors", weights)
    with pytest.raises(PackError, match=text):
        load_into(nn.Linear(3, 2), tmp_path / "w.safetensors")


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.randn(100)})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(PackError, match="damaged"):
        load_weights(path)
