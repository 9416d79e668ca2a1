"""The generator: the contract of every world model, on a small pack with random weights and on the shipped one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helios_world.errors import PackError, UserError
from helios_world.generator import cast, load_generator
from helios_world.pack import TRANSFORMER, list_packs, read_pack
from helios_world.testing import assert_world_model_contract
from helios_world.world import Start


@pytest.fixture(scope="module")
def generator(tiny_pack):
    return load_generator(str(tiny_pack), dtype="float32")


def test_float32_fulfils_the_contract(generator):
    assert_world_model_contract(generator, tolerance=0.01)


def test_bfloat16_fulfils_the_contract(tiny_pack):
    assert_world_model_contract(load_generator(str(tiny_pack), dtype="bfloat16"), tolerance=1.0)


@pytest.mark.parametrize("world", [name for name in list_packs() if read_pack(name).networks])
def test_shipped_worlds_fulfil_the_contract(world):
    """Batch and single steps differ by rounding only: at most half a grey level in the mean."""
    assert_world_model_contract(load_generator(world, dtype="bfloat16"), tolerance=0.5)


def test_bfloat16_is_near_float32(tiny_pack):
    exact, fast = (load_generator(str(tiny_pack), dtype=d) for d in ("float32", "bfloat16"))
    actions = np.zeros((1, 4, 7), np.float32)
    frames = [g.step([g.reset("maze", seed=3)[0]], actions)[1].astype(int) for g in (exact, fast)]
    assert np.abs(frames[0] - frames[1]).mean() < 2


def test_the_seed_picks_the_start_and_the_noise(generator):
    one, _ = generator.reset("maze", seed=0)
    other, _ = generator.reset("maze", seed=1)
    same_start, _ = generator.reset("maze", seed=len(generator.starts["maze"]))
    assert not torch.equal(one.history, other.history)
    assert torch.equal(one.history, same_start.history)
    actions = np.zeros((1, 4, 7), np.float32)
    held = generator.conditions(actions, [one])
    latents = [generator.sample(generator.prepare(one), held, [(seed, 1)]) for seed in (0, 1)]
    assert not torch.equal(*latents)


def test_the_anchor_of_absolute_positions_grows_old_chunk_by_chunk(tiny_pack, generator):
    """In chunk 2 it is as far away as relative positions say, for it is the oldest frame of the start."""
    absolute = load_generator(str(tiny_pack), dtype="float32")
    absolute.transformer.config = replace(absolute.transformer.config, positions="absolute")
    state, _ = generator.reset("maze", seed=0)
    for chunk in (1, 2, 9):
        later = replace(state, chunk=chunk)
        (keys, _), (wanted, _) = (g.prepare(later).layers[0] for g in (absolute, generator))
        assert torch.allclose(keys, wanted, atol=1e-5) == (chunk == 2)


def test_an_image_starts_a_world_that_stood_still(generator):
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3)).astype(np.uint8)
    state, shown = generator.reset("maze", start=Start(image=image))
    assert shown.shape == (4, 128, 160, 3)
    assert not state.history[:, :-1].any() and state.history[:, -1].any()
    assert torch.equal(state.anchor[:, 0], state.history[:, -1])


def test_drift_correction_changes_what_the_network_sees_and_nothing_that_is_kept(tiny_pack, generator):
    corrected = load_generator(str(tiny_pack), dtype="float32", drift_correction=0.7)
    plain, kept = (g.reset("maze", seed=3) for g in (generator, corrected))
    assert torch.equal(plain[0].history, kept[0].history) and np.array_equal(plain[1], kept[1])
    still = np.zeros((1, 4, 7), np.float32)
    ((one,), shown), ((other,), others) = (g.step([plain[0]], still) for g in (generator, corrected))
    assert not np.array_equal(shown, others)
    assert torch.equal(one.history[:, :-1], other.history[:, :-1]) and torch.equal(one.anchor, other.anchor)


def test_contrast_is_raised_only_once_all_of_the_past_is_made_up(tiny_pack, generator):
    lively = load_generator(str(tiny_pack), dtype="float32", contrast=1.0)
    assert lively.sampler.contrast == 1.0 and generator.sampler.contrast == 0.0
    state, _ = generator.reset("maze", seed=3)
    still = np.zeros((1, 4, 7), np.float32)
    for chunk, same in ((generator.history_length, True), (generator.history_length + 1, False)):
        pale = replace(state, history=0.5 * state.history, chunk=chunk)
        ((one,), shown), ((other,), others) = (g.step([pale], still) for g in (generator, lively))
        assert np.array_equal(shown, others) == same
        assert torch.equal(one.history[:, :-1], other.history[:, :-1]), "what is kept stays as it was made"
    with pytest.raises(UserError, match="contrast is 2: must be 0 to 1"):
        load_generator(str(tiny_pack), contrast=2)


@pytest.mark.parametrize("frames", [4, 7, 40, 200])
def test_a_video_starts_a_world_that_goes_on(generator, frames):
    video = np.random.default_rng(0).integers(0, 256, (frames, 128, 160, 3)).astype(np.uint8)
    state, _ = generator.reset("maze", start=Start(video=video))
    known = state.history.any(dim=(0, 2, 3))
    assert int(known.sum()) == min(frames // 4, generator.history_length)
    newest, _ = generator.reset("maze", start=Start(video=video[-4:]))
    assert torch.allclose(state.history[:, -1], newest.history[:, -1], atol=1e-4), "the newest frames come last"


def test_snapshots_of_another_shape_are_refused(generator):
    state, _ = generator.reset("maze")
    arrays = dict(generator.to_arrays(state))
    arrays["history"] = arrays["history"][:, 1:]
    with pytest.raises(UserError, match="snapshot does not hold history as float32"):
        generator.from_arrays(arrays, state)


def test_auto_picks_a_format_and_leaves_the_weights_exact(tiny_pack, generator):
    auto = load_generator(str(tiny_pack))
    assert auto.dtype in (torch.float32, torch.bfloat16)
    if auto.dtype == torch.float32:
        assert torch.equal(auto.transformer.proj_out.weight, generator.transformer.proj_out.weight)
    else:
        exact = generator.transformer.proj_out.weight
        assert torch.equal(auto.transformer.proj_out.weight, exact.to(torch.bfloat16))


def test_bad_requests_are_one_line(tiny_pack):
    with pytest.raises(UserError, match="unknown dtype 'int4': choose from auto, float32, bfloat16"):
        load_generator(str(tiny_pack), dtype="int4")
    with pytest.raises(UserError, match="unknown world 'atlantis'"):
        load_generator("atlantis")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device 'cuda' is not there: this torch sees 0 GPUs"):
            load_generator(str(tiny_pack), device="cuda")


def test_damaged_packs_are_refused(tiny_pack_copy):
    path = tiny_pack_copy / TRANSFORMER
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PackError, match=r"transformer.safetensors is damaged"):
        load_generator(str(tiny_pack_copy))
    path.unlink()
    with pytest.raises(PackError, match=r"transformer.safetensors is missing"):
        load_generator(str(tiny_pack_copy))
    (tiny_pack_copy / "world.json").write_text("{")
    with pytest.raises(PackError, match=r"world.json is damaged"):
        read_pack(str(tiny_pack_copy))


def test_cast_changes_the_number_format(tiny_pack):
    generator = cast(load_generator(str(tiny_pack), dtype="float32"), torch.bfloat16)
    assert generator.dtype == torch.bfloat16
