"""Adapters: nothing at first, exactly their matrices when merged, and all that learns in a large network."""

import copy

import pytest
import torch

from helios_world.checkpoint import load_weights, save_weights
from helios_world.config import TINY
from helios_world.demos.cli import main
from helios_world.model.dit import VideoDiT, initialise
from helios_world.sampling.schedule import pyramid_levels
from helios_world.training.lora import DOWN, UP, WHOLE, add_adapters, merge_adapters
from helios_world.training.losses import pyramid_flow_loss
from tests.test_distillation import network, seeded, small_window

LEVELS = pyramid_levels(2)


def answer(model, window):
    """What the network makes of `window`, as one number with gradients."""
    return pyramid_flow_loss(model, window, LEVELS, [1, 1], seeded(3))[0]


@pytest.fixture
def adapted():
    model = network(1)
    add_adapters(model, 3, seed=0)
    return model


def test_adapters_change_nothing_at_first_and_learn_alone_with_what_is_new(adapted):
    window = small_window()
    assert torch.equal(answer(adapted, window), answer(network(1), window))
    learns = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert all(name.endswith((DOWN, UP)) or any(part in name for part in WHOLE) for name in learns)
    assert sum(name.endswith(UP) for name in learns) == TINY.num_layers * 6, "q, k, v, out and two of the feed-forward"
    assert any("action_embedder" in name for name in learns)


def test_merged_weights_are_plain_and_compute_the_same(adapted):
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if name.endswith(UP):
                parameter.normal_(0, 0.1, generator=seeded(7))
    plain, window = VideoDiT(TINY), small_window()
    plain.load_state_dict(merge_adapters(adapted.state_dict()))
    torch.testing.assert_close(answer(plain, window), answer(adapted, window))
    assert not torch.allclose(answer(plain, window), answer(network(1), window))
    untouched = network(1).state_dict()
    assert all(torch.equal(weight, untouched[name]) for name, weight in merge_adapters(untouched).items())


def test_gradient_checkpointing_changes_no_gradient():
    model, window = network(2), small_window()
    kept = copy.deepcopy(model)
    kept.gradient_checkpointing = True
    runs = [torch.autograd.grad(answer(m, window), list(m.parameters())) for m in (model, kept)]
    for plain, computed_twice in zip(*runs, strict=True):
        torch.testing.assert_close(plain, computed_twice)


def test_stages_run_with_adapters_and_write_plain_weights(tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    assert main(["collect", "--out", str(data), "--frames", "300", "--workers", "1", "--seed", "5"]) == 0
    common = ["train", "--data", str(data), "--run", str(run), "--preset", "tiny", "--device", "cpu", "--batch", "2"]
    first = ["--autoencoder-iterations", "2", "--autoencoder-batch", "2", "--iterations", "2", "--rollout-batch", "2"]
    assert main([*common, *first]) == 0
    save_weights(run / "transformer.safetensors", network(1).state_dict())  # whose gates are open
    low_rank = ["--lora", "2", "--gradient-checkpointing", "--iterations", "4", "--rollout-batch", "2"]
    low_rank += ["--warmup", "1", "--muon-rate", "0.1", "--rate", "0.01", "--ema", "0"]  # far over rounding
    before = load_weights(run / "transformer.safetensors")
    for stage in ("base", "ode", "distil"):
        assert main([*common, "--stage", stage, "--teacher-steps", "2", *low_rank]) == 0
        after = load_weights(run / "transformer.safetensors")
        assert after.keys() == before.keys()
        changes = {name: after[name] - before[name] for name in before}
        assert changes["condition_embedder.time_proj.weight"].abs().max() == 0, "frozen"
        assert changes["patch_short.weight"].abs().max() > 0
        rank = torch.linalg.matrix_rank(changes["blocks.0.attn1.to_q.weight"], rtol=1e-3)
        assert 1 <= rank <= 2, stage
        before = after


def test_a_fresh_network_takes_adapters_of_any_rank():
    model = VideoDiT(TINY)
    initialise(model, seeded())
    add_adapters(model, 1, seed=1)
    assert model.blocks[0].attn1.to_q.lora_down.shape == (1, TINY.width)
