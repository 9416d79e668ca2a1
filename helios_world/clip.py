"""How long a clip of the Wan autoencoder is: its first latent frame holds one RGB frame, each of the others four."""

from __future__ import annotations

from helios_world.errors import UserError

FRAMES_PER_LATENT = 4
LONGEST_CHUNK = 9  # latent frames, the length that the release was trained on


def frames_of(latents: int) -> int:
    """RGB frames that a clip of `latents` latent frames holds."""
    return 1 + FRAMES_PER_LATENT * (latents - 1)


def latents_of(frames: int) -> int:
    """The inverse of `frames_of`. UserError if no number of latents gives `frames`."""
    if frames < 1 or (frames - 1) % FRAMES_PER_LATENT:
        raise UserError(f"a chunk of {frames} frames: must be 1, 5, 9, 13, ... (1 + 4 k)")
    return 1 + (frames - 1) // FRAMES_PER_LATENT


def chunk_frames(latents: int) -> int:
    """RGB frames of a chunk, which is a clip of its own. UserError unless it has 1 to LONGEST_CHUNK latent frames."""
    if not 1 <= latents <= LONGEST_CHUNK:
        raise UserError(f"a chunk of {latents} latent frames: must be 1 to {LONGEST_CHUNK}")
    return frames_of(latents)


def video_chunks(frames: int, latents: int) -> list[range]:
    """Which RGB frames of a video make up its chunks, oldest first; the oldest frames that fill none are left out."""
    length = chunk_frames(latents)
    if frames < length:
        raise UserError(f"video has {frames} frames: at least {length} (one chunk) are needed")
    return [range(start, start + length) for start in range(frames % length, frames, length)]
