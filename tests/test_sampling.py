"""Schedules and the pyramid: the released numbers, white noise at every level, Euler steps that end where they must."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from helios_world.sampling.pyramid import block_noise, double, halve, level_endpoints, sample_pyramid, seeded_noise
from helios_world.sampling.schedule import LOCAL_SIGMA, local_sigmas, pyramid_levels

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


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_levels_join_up(count):
    levels = pyramid_levels(count)
    assert [level.factor for level in levels] == [2 ** (count - 1 - s) for s in range(count)]
    assert levels[-1].sigma_end == 0.0
    for coarse, fine in pairwise(levels):
        # alpha * sigma_end of blocky noise and beta of block noise make sigma_start of white noise
        variance = (fine.alpha * coarse.sigma_end) ** 2 + fine.beta**2
        assert variance == pytest.approx(fine.sigma_start**2, rel=1e-2)
        assert fine.alpha * (1 - coarse.sigma_end) == pytest.approx(1 - fine.sigma_start, rel=1e-2)


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
