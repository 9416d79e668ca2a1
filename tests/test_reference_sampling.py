"""Schedules, solvers and whole chunks equal those of diffusers, fed with the same noise and the same network."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import HeliosPyramidPipeline

from helios_world.sampling.history import extend_past, past_of_image, past_of_nothing, past_of_video
from helios_world.sampling.pyramid import block_noise, halve, sample_chunk, seeded_noise
from helios_world.sampling.schedule import level_steps, pyramid_levels, shift_of
from helios_world.sampling.solvers import dmd
from helios_world.sampling.unipc import unipc
from tests.reference import (
    SAMPLERS,
    recorded_noise,
    reference_velocity,
    run_pipeline,
    scheduler,
    tiny_pipeline,
)

TOKENS = (540, 2160, 8640)  # of a released chunk at the three levels
STEP_ERROR, CHUNK_ERROR = 1e-6, 1e-5
BATCH, CHANNELS, LENGTH = 2, 4, 19


def relative_error(found, wanted):
    return float((found - wanted).abs().max() / wanted.abs().max())


def worst_step(solve, steps, reference, dtype, **reference_options):
    """The largest relative error after any step, both sides starting alike and seeing the same random velocities."""
    draw = torch.Generator().manual_seed(len(steps.timesteps))
    start, *velocities = torch.randn(len(steps.timesteps) + 1, 2, 3, 2, 4, 4, generator=draw, dtype=dtype)
    seen = []

    def velocity(z, step):
        seen.append(z)
        return velocities[step]

    seen.append(solve(velocity, start, steps.sigmas))
    z, errors = start, []
    for step, t in enumerate(reference.timesteps):
        if reference_options:
            reference_options |= {"cur_sampling_step": step, "dmd_noisy_tensor": start}
        z = reference.step(velocities[step], t, z, return_dict=False, **reference_options)[0]
        errors.append(relative_error(seen[step + 1], z))
    assert len(errors) == len(velocities)
    return max(errors)


@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_base_steps(count):
    reference = scheduler("base")
    reference.set_timesteps(count, sigmas=np.linspace(0.999, 0.0, count + 1)[:-1], mu=shift_of(TOKENS[2]))
    steps = level_steps(pyramid_levels(1)[0], count, SAMPLERS["base"], TOKENS[2])
    assert steps.timesteps == pytest.approx(reference.timesteps.tolist(), rel=1e-12)
    assert steps.sigmas == pytest.approx(reference.sigmas.tolist(), abs=1e-14)
    assert worst_step(unipc, steps, reference, torch.float64) < STEP_ERROR


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_mid_steps(level, count):
    reference = scheduler("mid")
    reference.set_timesteps(count, level, mu=shift_of(TOKENS[level]))
    sampler = replace(SAMPLERS["mid"], integer_timesteps=False)
    steps = level_steps(pyramid_levels(3)[level], count, sampler, TOKENS[level])
    assert steps.timesteps == pytest.approx(reference.timesteps.tolist(), rel=1e-12)
    assert steps.sigmas == pytest.approx(reference.sigmas.tolist(), abs=1e-14)
    assert worst_step(unipc, steps, reference, torch.float64) < STEP_ERROR
    whole = level_steps(pyramid_levels(3)[level], count, SAMPLERS["mid"], TOKENS[level])
    assert list(whole.timesteps) == reference.timesteps.long().tolist() and whole.sigmas == steps.sigmas


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize(("count", "amplified"), [(1, False), (2, False), (3, False), (2, True), (400, False)])
def test_distilled_steps(level, count, amplified):
    """400 steps lie closer than the fractions that are cut off, so that looking sigmas up finds neighbours."""
    reference = scheduler("distilled")
    reference.set_timesteps(count, level, mu=shift_of(TOKENS[level]), is_amplify_first_chunk=amplified)
    count *= 2 if amplified else 1
    fractions = replace(SAMPLERS["distilled"], integer_timesteps=False)
    exact = level_steps(pyramid_levels(3)[level], count, fractions, TOKENS[level])
    assert exact.timesteps == pytest.approx(reference.timesteps.tolist(), rel=1e-12)
    assert exact.sigmas == pytest.approx(reference.sigmas.tolist(), abs=1e-14)
    steps = level_steps(pyramid_levels(3)[level], count, SAMPLERS["distilled"], TOKENS[level])
    assert list(steps.timesteps) == reference.timesteps.long().tolist()
    assert (steps.sigmas == exact.sigmas) == (count < 100)
    tables = {"dmd_sigmas": reference.sigmas, "dmd_timesteps": reference.timesteps}
    assert worst_step(dmd, steps, reference, torch.float32, all_timesteps=reference.timesteps, **tables) < STEP_ERROR


def test_block_noise_has_the_covariance_of_the_reference_and_its_layout(monkeypatch):
    """With the symmetric root in place of the Cholesky factor, the reference makes our very noise."""
    gamma, shape = 1 / 3, (2, 4, 3, 6, 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    wanted = []

    def root(covariance):
        wanted.append(covariance)
        values, vectors = torch.linalg.eigh(covariance.double())
        return (vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T).float()

    blocks = noise.unflatten(-1, (4, 2)).unflatten(-3, (3, 2)).transpose(-3, -2).reshape(-1, 4)
    monkeypatch.setattr(torch.linalg, "cholesky", root)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: blocks)
    pipeline = SimpleNamespace(scheduler=scheduler("mid"))
    found = HeliosPyramidPipeline.sample_block_noise(pipeline, *shape, device=torch.device("cpu"))
    ours = block_noise(noise, gamma)
    assert (found - ours).abs().max() < 1e-3  # the reference adds 1e-8 to the covariance, 1e-4 to its root
    ones = torch.eye(4).reshape(4, 1, 1, 2, 2)
    factor = block_noise(ones, gamma).reshape(4, 4)
    assert (factor.T @ factor - wanted[0]).abs().max() < 1e-6
    assert halve(ours).abs().max() < 1e-6


def noise_of(chunk):
    return seeded_noise([(seed, chunk) for seed in range(BATCH)], torch.device("cpu"))


def make_ours(transformer, sampler, past, prompts, *, size, chunk, chunks):
    made = []
    for index in range(chunks):
        conditional, unconditional = (reference_velocity(transformer, past, p, chunk=chunk) for p in prompts)
        shape = (BATCH, CHANNELS, chunk, *size)
        made.append(
            sample_chunk(
                conditional,
                noise_of(index),
                shape,
                sampler,
                unconditional=unconditional,
                first_chunk=index == 0,
            )
        )
        past = extend_past(past, made[-1])
    return torch.cat(made, dim=2)


def starts(size, chunk):
    """What to start from, by name: our past and the reference's arguments, from generators of the same seed."""
    draw = torch.Generator().manual_seed(5)
    image, fake = torch.randn(2, BATCH, CHANNELS, 1, *size, generator=draw)
    video = torch.randn(BATCH, CHANNELS, 2 * chunk, *size, generator=draw)
    ours, reference = (lambda: torch.Generator().manual_seed(6) for _ in range(2))
    return {
        "text": (past_of_nothing(image, LENGTH), {}),
        "image": (
            past_of_image(image, fake, LENGTH, ours()),
            {"image_latents": image, "fake_image_latents": fake, "generator": reference()},
        ),
        "video": (
            past_of_video(image, video, LENGTH, ours(), chunk=chunk),
            {
                "image_latents": image,
                "video_latents": video,
                "add_noise_to_image_latents": False,  # the anchor gets its noise with the video
                "generator": reference(),
            },
        ),
    }


@pytest.mark.parametrize(
    ("kind", "start", "size", "chunk", "chunks"),
    [
        ("base", "text", (4, 6), 3, 1),
        ("mid", "text", (8, 16), 9, 1),
        ("distilled", "text", (16, 8), 9, 2),
        ("base", "image", (6, 4), 2, 2),
        ("mid", "image", (8, 16), 1, 2),
        ("distilled", "image", (8, 8), 4, 2),
        ("distilled", "video", (8, 8), 9, 2),
        ("distilled", "video", (8, 8), 5, 2),
    ],
)
def test_chunks_equal_those_of_the_pipeline(kind, start, size, chunk, chunks):
    pipeline, sampler = tiny_pipeline(kind), SAMPLERS[kind]
    prompts = torch.randn(2, BATCH, 5, 8, generator=torch.Generator().manual_seed(4))
    past, given = starts(size, chunk)[start]
    recorded_noise(pipeline, noise_of)
    wanted = run_pipeline(pipeline, sampler, *prompts, size=size, chunk=chunk, chunks=chunks, **given)
    found = make_ours(pipeline.transformer, sampler, past, prompts, size=size, chunk=chunk, chunks=chunks)
    assert found.shape == wanted.shape == (BATCH, CHANNELS, chunks * chunk, *size)
    assert wanted.isfinite().all() and wanted.std() > 0.1
    assert relative_error(found, wanted) < CHUNK_ERROR


@pytest.mark.parametrize("kind", ["mid", "distilled"])
def test_each_habit_of_the_pipeline_changes_the_chunk(kind):
    """So the test above would fail without them: neither is how the network was trained, so neither is a default."""
    transformer, size = tiny_pipeline(kind).transformer, (8, 8)
    prompts = torch.randn(2, BATCH, 5, 8, generator=torch.Generator().manual_seed(4))
    past, _ = starts(size, 1)["text"]
    run = lambda sampler: make_ours(transformer, sampler, past, prompts, size=size, chunk=1, chunks=1)  # noqa: E731
    habits = run(SAMPLERS[kind])
    for habit in ("integer_timesteps", "shift_before_upsampling"):
        error = relative_error(run(replace(SAMPLERS[kind], **{habit: False})), habits)
        assert error > 100 * CHUNK_ERROR and math.isfinite(error)
