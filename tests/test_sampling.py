"""Schedules and the pyramid: the released numbers, white noise at every level, steps that end where they must."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helios_world.config import (
    HELIOS_BASE_SAMPLER,
    HELIOS_DISTILLED_SAMPLER,
    HELIOS_MID_SAMPLER,
    SHIFTS,
    SOLVERS,
    SamplerConfig,
)
from helios_world.errors import UserError
from helios_world.sampling.guidance import guide, guided_velocity, projection_scale, zero_init_steps
from helios_world.sampling.pyramid import (
    block_noise,
    double,
    halve,
    level_endpoints,
    sample_chunk,
    sample_pyramid,
    seeded_noise,
)
from helios_world.sampling.schedule import (
    LOCAL_SIGMA,
    check_size,
    level_steps,
    local_sigmas,
    pyramid_levels,
    shift_of,
)

RELEASED = [  # factor, start, end, t_max, t_min, alpha, beta: the table of the released three-level schedule
    (4, 0.999, 0.666333, 999.0, 743.5117, 1.0, 0.0),
    (2, 0.799760, 0.333666, 743.2560, 385.9716, 0.600120, 0.692612),
    (1, 0.500374, 0.0, 385.6140, 1.3836, 0.749813, 0.433337),
]


def test_three_levels_are_the_released_ones():
    for level, wanted in zip(pyramid_levels(3), RELEASED, strict=True):
        found = (
            level.factor,
            level.sigma_start,
            level.sigma_end,
            level.t_max,
            level.t_min,
            level.alpha,
            level.beta,
        )
        assert found == pytest.approx(wanted, abs=5e-5)


def test_upsampled_noise_and_block_noise_make_white_noise():
    generator = torch.Generator().manual_seed(0)
    coarse, fine = pyramid_levels(2)
    low = 2 * halve(torch.randn(1, 1, 4000, 4, 4, generator=generator))
    z = fine.alpha * coarse.sigma_end * double(low) + fine.beta * block_noise(
        torch.randn(1, 1, 4000, 4, 4, generator=generator), 1 / 3
    )
    flat = z[0, 0].reshape(4000, 16)
    covariance = flat.T @ flat / 4000
    wanted = fine.sigma_start**2 * torch.eye(16)
    assert (covariance - wanted).abs().max() < 0.05


def test_block_noise_has_no_mean_in_any_block():
    noise = block_noise(torch.randn(2, 3, 2, 8, 6, generator=torch.Generator().manual_seed(1)), 1 / 3)
    assert halve(noise).abs().max() < 1e-6


def test_local_sigmas():
    assert local_sigmas(1) == [LOCAL_SIGMA, 0.0]
    assert local_sigmas(4) == pytest.approx([0.999, 0.74925, 0.4995, 0.24975, 0.0])


@pytest.mark.parametrize("steps", [(1, 1), (3, 2)])
def test_the_true_velocity_leads_to_the_data(steps):
    """With a velocity that knows the answer, the sampler ends at it, whatever the number of steps."""
    levels = pyramid_levels(2)
    clean = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    noise = seeded_noise([(1, 1), (2, 1)], torch.device("cpu"))
    seen: list[float] = []

    def velocity(z, timestep):
        level = next(s for s, lv in enumerate(levels) if lv.t_min <= timestep <= lv.t_max)
        seen.append(timestep)
        sigma = (timestep - levels[level].t_min) / (levels[level].t_max - levels[level].t_min)
        target = clean if level == 1 else halve(clean)
        end = levels[level].sigma_end * velocity.noise[level] + (1 - levels[level].sigma_end) * target
        return (z - end) / sigma

    full = noise((2, 4, 1, 8, 8), 0)
    velocity.noise = [2 * halve(full), full]
    result = sample_pyramid(velocity, noise, tuple(clean.shape), levels, steps, 1 / 3)
    assert (result - clean).abs().max() < 1e-4
    assert len(seen) == sum(steps) and seen == sorted(seen, reverse=True)


def test_training_pairs_are_coupled_as_in_sampling():
    levels = pyramid_levels(2)
    generator = torch.Generator().manual_seed(3)
    clean, noise = (torch.randn(1, 2, 1, 8, 8, generator=generator) for _ in range(2))
    start, end = level_endpoints(clean, noise, levels, 0)
    assert torch.equal(start, 2 * halve(noise))
    assert torch.allclose(end, levels[0].sigma_end * start + (1 - levels[0].sigma_end) * halve(clean))
    start, end = level_endpoints(clean, noise, levels, 1)
    assert torch.equal(end, clean)
    assert torch.allclose(halve(start - levels[1].sigma_start * noise), (1 - levels[1].sigma_start) * halve(clean))


def test_noise_is_a_function_of_seed_chunk_and_draw():
    device = torch.device("cpu")
    both = seeded_noise([(5, 1), (6, 9)], device)((2, 3, 4), 1)
    alone = seeded_noise([(6, 9)], device)((1, 3, 4), 1)
    assert torch.equal(both[1:], alone), "a row must not depend on its batch"
    others = [seeded_noise([key], device)((1, 3, 4), draw) for key, draw in (((7, 9), 1), ((6, 8), 1), ((6, 9), 2))]
    assert all(not torch.equal(alone, other) for other in others)
    assert abs(float(both.mean())) < 1 and both.dtype == torch.float32
    assert np.isfinite(both.numpy()).all()


def samplers(most_steps):
    """Any sampler of up to four levels with up to `most_steps` each."""
    return st.builds(
        SamplerConfig,
        steps=st.lists(st.integers(1, most_steps), min_size=1, max_size=4).map(tuple),
        solver=st.sampled_from(SOLVERS),
        shift=st.sampled_from(SHIFTS),
        integer_timesteps=st.booleans(),
    )


CHUNK = (2, 3, 2, 8, 8)


def noise():
    return seeded_noise([(1, 1), (2, 1)], torch.device("cpu"))


def bent(z, timestep):
    """A velocity that depends on everything it is given."""
    return torch.sin(z) + timestep / 1000


@given(sampler=samplers(60), tokens=st.integers(1, 20_000))
@example(SamplerConfig((58, 1, 1), solver="dmd", shift="exponential", integer_timesteps=True), 2666)
def test_steps_go_down_from_noise_to_nothing(sampler, tokens):
    levels = pyramid_levels(len(sampler.steps))
    for level, count in zip(levels, sampler.steps, strict=True):
        steps = level_steps(level, count, sampler, tokens)
        assert len(steps.timesteps) == count and len(steps.sigmas) == count + 1
        assert steps.sigmas[-1] == 0.0 and 0.9 < steps.sigmas[0] < 1.0
        # Looked up by whole time steps (dmd), sigmas of many steps are found twice.
        assert all(high > low or (sampler.integer_timesteps and high >= low) for high, low in pairwise(steps.sigmas))
        assert all(high >= low for high, low in pairwise(steps.timesteps))
        assert level.t_max >= steps.timesteps[0] and steps.timesteps[-1] > level.t_min - 1
        if sampler.integer_timesteps:
            assert all(t == int(t) for t in steps.timesteps)


@given(count=st.integers(1, 4), gamma=st.floats(0.05, 1 / 3))
def test_levels_meet(count, gamma):
    """Blocky noise from below and block noise make white noise of the share at which the next level starts."""
    levels = pyramid_levels(count, gamma)
    assert [level.factor for level in levels] == [2 ** (count - 1 - s) for s in range(count)]
    assert levels[-1].sigma_end == 0.0
    for coarse, fine in pairwise(levels):
        blocky, added = (fine.alpha * coarse.sigma_end) ** 2, fine.beta**2
        assert blocky + added == pytest.approx(fine.sigma_start**2, rel=1e-9)
        assert blocky - gamma * added == pytest.approx(0.0, abs=1e-9), "neighbours must not correlate"
        assert fine.alpha * (1 - coarse.sigma_end) == pytest.approx(1 - fine.sigma_start, rel=1e-9)


@pytest.mark.parametrize(
    ("tokens", "mu"), [(256, 0.5), (4096, 1.15), (540, 0.548073), (2160, 0.822292), (8640, 1.919167)]
)
def test_the_shift_grows_with_the_tokens(tokens, mu):
    assert shift_of(tokens) == pytest.approx(mu, abs=1e-6)


DISTILLED = [  # tokens, time steps of a first chunk, with twice the steps: every second one is that of a later chunk
    (540, (998.534, 902.22, 833.964, 783.07)),
    (2160, (742.822, 640.00, 547.193, 463.00)),
    (8640, (385.414, 328.62, 253.991, 151.53)),
]


def test_distilled_steps_are_the_released_ones():
    for level, (tokens, timesteps) in zip(pyramid_levels(3), DISTILLED, strict=True):
        first, later = (level_steps(level, n, HELIOS_DISTILLED_SAMPLER, tokens).timesteps for n in (4, 2))
        assert first == pytest.approx(timesteps, abs=0.01)
        assert later == pytest.approx(timesteps[::2], abs=0.01)


def test_the_plain_sampler_is_the_euler_pyramid():
    levels = pyramid_levels(2)
    plain = sample_pyramid(bent, noise(), CHUNK, levels, (2, 3), 1 / 3)
    assert torch.equal(plain, sample_chunk(bent, noise(), CHUNK, SamplerConfig((2, 3))))


@given(sampler=samplers(11), first=st.booleans())
@settings(max_examples=30, deadline=None)
def test_every_solver_finds_the_data(sampler, first):
    """Where the velocity points away from the data, every solver ends at them, however many steps it takes."""
    sampler = replace(sampler, integer_timesteps=False, amplify_first_chunk=True)
    levels, clean, told = pyramid_levels(len(sampler.steps)), 0.5, []

    def velocity(z, timestep):
        level = next(lv for lv in levels if lv.t_min <= timestep <= lv.t_max)
        told.append(timestep)
        return (z - clean) * (level.t_max - level.t_min) / (timestep - level.t_min)

    result = sample_chunk(velocity, noise(), (2, 1, 1, 16, 16), sampler, first_chunk=first)
    assert (result - clean).abs().max() < 1e-3
    assert len(told) == sum(sampler.steps) * (2 if first else 1)
    assert told == sorted(told, reverse=True)


def test_guidance_is_extrapolation_and_the_zero_star_takes_what_both_share_out():
    draw = torch.Generator().manual_seed(0)
    v, u = torch.randn(2, *CHUNK, generator=draw)
    assert torch.equal(guide(v, u, 1.0), u + (v - u)) and torch.equal(guide(v, u, 0.0), u)
    scale = projection_scale(v, u)
    assert scale.shape == (2, 1, 1, 1, 1)
    assert ((v - scale * u) * u).flatten(1).sum(dim=1).abs().max() < 1e-3
    assert torch.allclose(projection_scale(3 * u, u), torch.tensor(3.0))
    mid = guided_velocity(lambda z, t: v, lambda z, t: u, HELIOS_MID_SAMPLER)(v, 1.0)
    assert torch.allclose(mid, scale * u + 5 * (v - scale * u))
    base = guided_velocity(lambda z, t: v, lambda z, t: u, HELIOS_BASE_SAMPLER)(v, 1.0)
    assert torch.allclose(base, u + 5 * (v - u))


def test_who_does_not_guide_runs_one_branch():
    def never(z, timestep):
        raise AssertionError("the unconditional branch was run")

    unguided = replace(HELIOS_MID_SAMPLER, steps=(1, 1, 1), guidance_scale=1.0)
    sample_chunk(bent, noise(), CHUNK, unguided, unconditional=never)
    assert zero_init_steps(unguided) == 0
    with pytest.raises(AssertionError, match="needs an unconditional"):
        sample_chunk(bent, noise(), CHUNK, replace(unguided, guidance_scale=2.0))


def test_zero_init_leaves_out_the_first_steps_of_the_coarsest_level():
    told = []

    def velocity(z, timestep):
        told.append(timestep)
        return z

    sample_chunk(velocity, noise(), CHUNK, replace(HELIOS_MID_SAMPLER, steps=(4, 3, 2)), unconditional=velocity)
    assert len(told) == 2 * (4 - 2 + 3 + 2)
    told.clear()
    sample_chunk(velocity, noise(), CHUNK, replace(HELIOS_MID_SAMPLER, steps=(1, 3, 2)), unconditional=velocity)
    assert len(told) == 2 * (3 + 2)


@pytest.mark.parametrize(("height", "width", "levels"), [(384, 640, 3), (64, 64, 3), (128, 160, 2), (16, 48, 1)])
def test_sizes_that_fit(height, width, levels):
    check_size(height, width, levels)


@pytest.mark.parametrize(
    ("height", "width", "levels", "multiple"), [(480, 640, 3, 64), (384, 0, 3, 64), (16, 40, 1, 16)]
)
def test_sizes_that_do_not_fit_are_refused(height, width, levels, multiple):
    with pytest.raises(UserError, match=f"^size {height}x{width} .* multiples of {multiple}$"):
        check_size(height, width, levels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"solver": "heun"}, "unknown solver 'heun': choose from euler, unipc, dmd"),
        ({"shift": "cubic"}, "unknown shift 'cubic': choose from None, linear, exponential"),
        ({"steps": [2, 0]}, r"steps \(2, 0\) must be one number per pyramid level, each at least 1"),
        ({"steps": []}, r"steps \(\) must be"),
        ({"stages": 3}, "SamplerConfig has no stages"),
    ],
)
def test_a_sampler_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        SamplerConfig.from_dict(values)


def test_a_sampler_survives_its_file():
    for sampler in (SamplerConfig(), HELIOS_BASE_SAMPLER, HELIOS_MID_SAMPLER, HELIOS_DISTILLED_SAMPLER):
        assert SamplerConfig.from_dict(sampler.to_dict()) == sampler
    assert SamplerConfig.from_dict({"steps": [1, 1], "gamma": 1 / 3}) == SamplerConfig()
