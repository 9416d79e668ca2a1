"""Drift read-outs of known pictures, and a correction that goes the right way and touches nothing else."""

import json

import numpy as np
import pytest
import torch

from helios_world.drift import Drift, brightness, contrast, correct_history, measure_drift, raise_contrast, sharpness
from helios_world.errors import UserError


def picture(seed=0, low=60, high=180):
    return np.random.default_rng(seed).integers(low, high, (32, 40, 3)).astype(np.uint8)


def test_looks_of_known_pictures():
    flat = np.full((2, 8, 8, 3), 50, np.uint8)
    stripes = np.tile(np.array([0, 100], np.uint8)[None, None, :, None], (2, 8, 4, 3))
    assert sharpness(flat).tolist() == [0, 0] and sharpness(stripes).tolist() == [100, 100]
    assert contrast(flat).tolist() == [0, 0] and contrast(stripes).tolist() == [50, 50]
    assert brightness(flat).tolist() == [50, 50] and brightness(stripes).tolist() == [50, 50]


def test_the_anchor_has_not_drifted():
    anchor = picture()
    assert measure_drift(np.stack([anchor] * 5), anchor) == Drift(0.0, 1.0, 1.0)
    flat = np.full((8, 8, 3), 9, np.uint8)
    assert measure_drift(flat, flat) == Drift(0.0, 1.0, 1.0), "two flat pictures are equally sharp"


def test_each_number_sees_what_it_is_for():
    anchor = picture()
    yellow = anchor + np.array([12, 12, 0], np.uint8)
    assert measure_drift(yellow[None], anchor).colour == pytest.approx(8.0)
    faded = (120 + (anchor.astype(float) - 120) / 2).round().astype(np.uint8)
    drift = measure_drift(faded[None], anchor)
    assert drift.contrast == pytest.approx(0.5, abs=0.02) and drift.sharpness == pytest.approx(0.5, abs=0.02)
    assert drift.colour < 0.6
    wide = anchor.astype(float)
    blurred = ((wide + np.roll(wide, 1, 1) + np.roll(wide, -1, 1)) / 3).astype(np.uint8)
    drift = measure_drift(blurred[None], anchor)
    assert drift.sharpness < 0.6 * drift.contrast and drift.colour < 1.0


def test_a_drift_is_plain_data():
    values = measure_drift(picture(1)[None], picture()).to_dict()
    assert set(values) == {"colour", "contrast", "sharpness"}
    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize("shape", [(8, 8), (0, 8, 8, 3), (2, 8, 8, 4)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(UserError, match=r"must be \(\.\.\., height, width, 3\)"):
        measure_drift(np.zeros(shape, np.uint8), picture())


def latents(frames=6, seed=0):
    """An anchor chunk, and a history that is it with a cast, half the contrast, and two frames of no past."""
    noise = np.random.default_rng(seed).standard_normal((4, frames, 5, 7)).astype(np.float32)
    scale, shift = (np.linspace(low, 2, 4, dtype=np.float32)[:, None, None, None] for low in (1, -1))
    anchor = noise * scale + shift
    history = np.concatenate([np.zeros_like(anchor[:, :2]), 0.6 * anchor + 0.5], axis=1)
    return history, anchor


def statistics(values):
    return values.mean((1, 2, 3)), values.std((1, 2, 3))


def test_the_correction_is_off_unless_asked_for():
    history, anchor = latents()
    assert correct_history(history, anchor) is history


def test_the_correction_moves_mean_and_contrast_to_the_anchor():
    history, anchor = latents()
    before = history.copy()
    full = correct_history(history, anchor, 1.0)
    for ours, wanted in zip(statistics(full[:, 2:]), statistics(anchor), strict=True):
        assert np.allclose(ours, wanted, atol=1e-4)
    half = correct_history(history, anchor, 0.5)
    assert np.allclose(half, (full + history) / 2, atol=1e-5)
    assert np.array_equal(history, before), "what was given is not changed"
    assert not full[:, :2].any(), "no past stays no past"
    assert np.array_equal(full, correct_history(history, anchor, 1.0)), "there is no noise in it"
    assert full.dtype == np.float32
    assert np.allclose(correct_history(anchor, anchor, 1.0), anchor, atol=1e-5), "nothing to correct"


def test_contrast_is_changed_at_most_twofold():
    history, anchor = latents()
    strong = correct_history(0.1 * history, anchor, 1.0)
    ratio = strong[:, 2:].std((1, 2, 3)) / (0.1 * history[:, 2:]).std((1, 2, 3))
    assert np.allclose(ratio, 2.0, atol=1e-3)


def test_torch_and_numpy_agree():
    history, anchor = latents()
    ours = correct_history(torch.from_numpy(history), torch.from_numpy(anchor), 0.7)
    assert torch.allclose(ours, torch.from_numpy(correct_history(history, anchor, 0.7)), atol=1e-5)
    nothing = torch.zeros(4, 3, 5, 7)
    assert correct_history(nothing, torch.from_numpy(anchor), 1.0) is nothing


def test_contrast_is_raised_frame_by_frame_and_never_lowered():
    history, anchor = latents()
    anchor = anchor[:, :1]
    history[:, 3] *= 9.0
    raised = raise_contrast(history, anchor, 0.7)
    found, before, wanted = (x.std((2, 3)) for x in (raised, history, anchor))
    least = np.maximum(before, 0.7 * wanted)
    assert np.allclose(found[:, 2:], least[:, 2:], atol=1e-4) and (found[:, 4:] > 1.05 * before[:, 4:]).any()
    assert np.allclose(raised.mean((2, 3)), history.mean((2, 3)), atol=1e-5)
    assert np.allclose(raised[:, 3], history[:, 3], rtol=1e-5) and not raised[:, :2].any()
    assert raise_contrast(history, anchor, 0.0) is history
    ours = raise_contrast(torch.from_numpy(history), torch.from_numpy(anchor), 0.7)
    assert torch.allclose(ours, torch.from_numpy(raised), atol=1e-5)


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_strength_is_a_share(strength):
    with pytest.raises(UserError, match="must be 0 to 1"):
        correct_history(*latents(), strength)
