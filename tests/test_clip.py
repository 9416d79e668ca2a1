"""Lengths of clips: latent frames, RGB frames, and how a video is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios_world.clip import chunk_frames, frames_of, latents_of, video_chunks
from helios_world.errors import UserError


def test_lengths_are_each_others_inverse():
    assert [frames_of(n) for n in (1, 2, 9)] == [1, 5, 33]
    assert [latents_of(frames_of(n)) for n in range(1, 30)] == list(range(1, 30))


def test_rgb_frames_of_a_chunk():
    assert [chunk_frames(n) for n in range(1, 10)] == [1, 5, 9, 13, 17, 21, 25, 29, 33]


@pytest.mark.parametrize("length", [0, 10, -1])
def test_chunks_of_other_lengths_are_refused(length):
    with pytest.raises(UserError, match=f"^a chunk of {length} latent frames: must be 1 to 9$"):
        chunk_frames(length)


@given(frames=st.integers(1, 200), latent_frames=st.integers(1, 9))
def test_a_video_is_cut_into_chunks_that_end_with_it(frames, latent_frames):
    length = chunk_frames(latent_frames)
    if frames < length:
        with pytest.raises(
            UserError, match=rf"^video has {frames} frames: at least {length} \(one chunk\) are needed$"
        ):
            video_chunks(frames, latent_frames)
        return
    chunks = video_chunks(frames, latent_frames)
    assert [n for chunk in chunks for n in chunk] == list(range(frames - len(chunks) * length, frames))
    assert all(len(chunk) == length for chunk in chunks) and chunks[0].start < length
