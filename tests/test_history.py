"""What a first chunk remembers, and what each chunk adds to it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helios_world.errors import UserError
from helios_world.sampling.history import (
    LEAST_NOISE,
    MOST_NOISE,
    extend_past,
    past_of_image,
    past_of_nothing,
    past_of_video,
)

LENGTH = 19
WIDE = (2, 4, 1, 64, 64)  # large enough to measure how much noise there is


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def latents(frames, seed=0):
    return torch.randn(2, 4, frames, 2, 3, generator=seeded(seed))


def test_nothing_is_all_zeros():
    past = past_of_nothing(latents(1), LENGTH)
    assert past.history_BCTHW.shape == (2, 4, LENGTH, 2, 3) and past.anchor_BC1HW.shape == (2, 4, 1, 2, 3)
    assert not past.history_BCTHW.any() and not past.anchor_BC1HW.any()


def test_an_image_is_anchor_and_stood_still():
    image, still = latents(1, 1), latents(9, 2)
    past = past_of_image(image, still, LENGTH, None)
    assert torch.equal(past.anchor_BC1HW, image)
    assert torch.equal(past.history_BCTHW[:, :, -1:], still[:, :, -1:])
    assert past.history_BCTHW.shape[2] == LENGTH and not past.history_BCTHW[:, :, :-1].any()


@pytest.mark.parametrize(("chunks", "chunk"), [(1, 9), (2, 9), (3, 9), (1, 1), (7, 4)])
def test_a_video_goes_on_after_its_newest_frames(chunks, chunk):
    first, video = latents(1, 1), latents(chunks * chunk, 2)
    past = past_of_video(first, video, LENGTH, None, chunk=chunk)
    kept = min(LENGTH, chunks * chunk)
    assert torch.equal(past.anchor_BC1HW, first)
    assert past.history_BCTHW.shape[2] == LENGTH
    assert torch.equal(past.history_BCTHW[:, :, -kept:], video[:, :, -kept:])
    assert not past.history_BCTHW[:, :, : LENGTH - kept].any()


def share_of(noised):
    """Share of noise in what was all ones, per frame: their mean is one less it."""
    return (1 - noised.mean(dim=(0, 1, 3, 4))).tolist()


def test_material_from_outside_is_noised_each_part_with_its_own_share():
    ones = torch.ones(WIDE)
    past = past_of_image(ones, ones, LENGTH, seeded())
    shares = share_of(past.anchor_BC1HW) + share_of(past.history_BCTHW[:, :, -1:])
    assert past.history_BCTHW[:, :, -1].std() == pytest.approx(shares[1], rel=0.05)
    video = past_of_video(ones, ones.expand(-1, -1, 18, -1, -1), LENGTH, seeded(), chunk=9)
    shares += share_of(video.anchor_BC1HW) + share_of(video.history_BCTHW[:, :, 1:])
    assert all(LEAST_NOISE - 0.003 < share < MOST_NOISE + 0.003 for share in shares), shares
    assert len({round(share, 4) for share in shares}) > 15
    assert not video.history_BCTHW[:, :, 0].any(), "what there never was gets no noise"


def test_the_generator_decides_the_noise():
    image, still = latents(1, 1), latents(9, 2)
    one, again, other = (past_of_image(image, still, LENGTH, seeded(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_first_chunk_gives_the_anchor_to_who_has_none():
    given_anchor, chunk = latents(1, 1), latents(9, 2)
    past = past_of_nothing(chunk, LENGTH)
    past.anchor_BC1HW[1] = given_anchor[1]
    following = extend_past(past, chunk)
    assert torch.equal(following.anchor_BC1HW[0], chunk[0, :, :1])
    assert torch.equal(following.anchor_BC1HW[1], given_anchor[1])
    later = extend_past(following, latents(9, 3))
    assert torch.equal(later.anchor_BC1HW, following.anchor_BC1HW)
    assert not past.history_BCTHW.any(), "a past is never changed in place"


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_the_history_is_the_newest_frames_of_all_there_was(lengths):
    past, made = past_of_nothing(latents(1), LENGTH), torch.zeros(2, 4, LENGTH, 2, 3)
    for index, length in enumerate(lengths):
        chunk = latents(length, index)
        past, made = extend_past(past, chunk), torch.cat([made, chunk], dim=2)
    assert torch.equal(past.history_BCTHW, made[:, :, -LENGTH:])


def test_latents_that_are_no_whole_chunks_are_refused():
    with pytest.raises(UserError, match=r"^video has 10 latent frames: must be whole chunks of 9$"):
        past_of_video(latents(1), latents(10), LENGTH, None, chunk=9)
