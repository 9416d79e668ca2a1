"""What a world's first chunk remembers: nothing, an image, or a video; and what each chunk adds to it.

Material from outside is noised a little, for the network has learnt to distrust its past. What it made itself stays
clean. Shapes: B batch, C latent channels, T latent frames, H W latent size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from helios_world.errors import UserError

LEAST_NOISE, MOST_NOISE = 0.111, 0.135  # share of noise in an image or video to start from


class Past(NamedTuple):
    """Clean latents that the next chunk is conditioned on.

    Attributes:
        history_BCTHW: the recent past, oldest first, zeros for what there never was.
        anchor_BC1HW: the frame that holds colours and identity; zeros while there is none.
    """

    history_BCTHW: Tensor
    anchor_BC1HW: Tensor


def past_of_nothing(like_BCTHW: Tensor, length: int) -> Past:
    """All zeros, which the network takes for "there was nothing": text to video. Sizes and device of `like`."""
    return Past(_zeros(like_BCTHW, length), _zeros(like_BCTHW, 1))


def past_of_image(image_BC1HW: Tensor, still_BCTHW: Tensor, length: int, generator: torch.Generator | None) -> Past:
    """Image to video: the image as anchor, and as history the last latent frame of a clip in which it stands still.

    Args:
        still_BCTHW: latents of that clip, one chunk long; the last one is used.
        generator: of the noise, on the CPU whatever device the latents are on; None adds none.
    """
    anchor = _noised(image_BC1HW, 1, generator)
    last = _noised(still_BCTHW[:, :, -1:], 1, generator)
    return Past(torch.cat([_zeros(last, length - 1), last], dim=2), anchor)


def past_of_video(
    first_BC1HW: Tensor, video_BCTHW: Tensor, length: int, generator: torch.Generator | None, *, chunk: int
) -> Past:
    """Video continued: its very first frame as anchor, its newest latent frames as history.

    Args:
        first_BC1HW: latent of the first RGB frame of the whole video, encoded by itself.
        video_BCTHW: latents of its chunks, each encoded as a clip of its own (`clip.video_chunks`).
        generator: of the noise, on the CPU whatever device the latents are on; None adds none.
        chunk: latent frames per chunk. The noise is drawn chunk by chunk, as the public pipelines do.
    """
    if video_BCTHW.shape[2] == 0 or video_BCTHW.shape[2] % chunk:
        raise UserError(f"video has {video_BCTHW.shape[2]} latent frames: must be whole chunks of {chunk}")
    anchor = _noised(first_BC1HW, 1, generator)
    video = torch.cat([_noised(part, chunk, generator) for part in video_BCTHW.split(chunk, dim=2)], dim=2)
    return Past(torch.cat([_zeros(video, length), video], dim=2)[:, :, -length:], anchor)


def extend_past(past: Past, chunk_BCTHW: Tensor) -> Past:
    """The past of the next chunk. A row without an anchor gets the first latent frame of this one."""
    length = past.history_BCTHW.shape[2]
    missing = ~past.anchor_BC1HW.flatten(1).any(dim=1)
    anchor = torch.where(missing.view(-1, 1, 1, 1, 1), chunk_BCTHW[:, :, :1], past.anchor_BC1HW)
    return Past(torch.cat([past.history_BCTHW, chunk_BCTHW], dim=2)[:, :, -length:], anchor)


def _noised(x_BCTHW: Tensor, shares: int, generator: torch.Generator | None) -> Tensor:
    """s noise + (1 - s) x, with one share s for all frames or one per frame, the same for all rows."""
    if generator is None:
        return x_BCTHW
    share = LEAST_NOISE + (MOST_NOISE - LEAST_NOISE) * torch.rand(shares, generator=generator)
    share = share.view(1, 1, shares, 1, 1).to(x_BCTHW)
    return share * torch.randn(x_BCTHW.shape, generator=generator).to(x_BCTHW) + (1 - share) * x_BCTHW


def _zeros(like_BCTHW: Tensor, frames: int) -> Tensor:
    batch, channels, _, height, width = like_BCTHW.shape
    return like_BCTHW.new_zeros(batch, channels, frames, height, width)
