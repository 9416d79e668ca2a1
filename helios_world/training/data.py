"""A collected data set on the training device, and the batches drawn from it.

Shapes: B batch, T RGB frames, H W their size, A buttons, S scenes; latents (C, h, w) per latent frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helios_world.device import DTYPES, mixed_precision, quick_dtype
from helios_world.errors import UserError
from helios_world.model.vae import VideoVAE
from helios_world.training.collect import ARRAYS
from helios_world.training.facts import not_a_data_set, read_facts, scene_dim

ACTOR_WEIGHT = 9.0  # more that the errors of a cell count where monsters cover all of it


class Window(NamedTuple):
    """One chunk to predict and what is known before it."""

    history: Tensor  # (B, C, N, h, w) clean, oldest first, zeros before the episode's start
    anchor: Tensor  # (B, C, 1, h, w)
    clean: Tensor  # (B, C, 1, h, w) the chunk to predict
    actions: Tensor  # (B, 1, T * A + S) that led to its frames, then the scene
    age: Tensor  # (B,) int64, chunks from the anchor to it: one where the anchor is the chunk before
    weight: Tensor  # (B, 1, 1, h, w) float32, what its errors count

    def first(self, rows: int) -> Window:
        """The first rows of the batch."""
        return Window(*(part[:rows] for part in self))


class Coded(NamedTuple):
    """Recorded chunks of frames, and raw latents to decode beside them."""

    frames: Tensor  # uint8 (B, T, H, W, 3)
    latents: Tensor  # (B, C, h, w)
    near: Tensor  # bool (B,), whether the latents are of these very frames; others have only to look real

    def join(self, other: Coded) -> Coded:
        """Both batches as one."""
        return Coded(*(torch.cat(pair) for pair in zip(self, other, strict=True)))


class MappedFrames:
    """Frames of shards on disk, one after another, uint8 (n, H, W, 3). A slice of them is read, into host memory."""

    def __init__(self, shards: Sequence[np.ndarray]):
        self._shards = shards

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __getitem__(self, where: slice) -> Tensor:
        low, high, step = where.indices(len(self))
        assert step == 1, "frames are read one after another"
        parts, offset = [], 0
        for shard in self._shards:
            parts.append(shard[max(low - offset, 0) : max(high - offset, 0)])
            offset += len(shard)
        return torch.from_numpy(np.concatenate(parts))


@dataclass(frozen=True)
class Recording:
    """All frames of one or more data sets, one after another.

    Attributes:
        frames: uint8 (n, H, W, 3), on the training device, or still on disk.
        actions: uint8 (n, A); row t led to frame t.
        first: int64 (n,), index of the first frame of the episode that a frame belongs to.
        scene: int64 (n,), index into `scenes`.
        poses, outcomes, stats: float32 (n, 3), (n, 3) and (n, 2), see `collect.Row`.
        actors: uint8 (n, h, w), how much of each cell of a frame monsters cover, see `collect.Row`.
        scenes: of the data sets, in their order.
        facts: what their data.json say.
        shares: float32 (S,), of each scene among moments that are drawn; None: as many as it has frames.
    """

    frames: Tensor | MappedFrames
    actions: Tensor
    first: Tensor
    scene: Tensor
    poses: np.ndarray
    outcomes: Tensor
    stats: Tensor
    actors: Tensor
    scenes: tuple[str, ...]
    facts: tuple[dict, ...]
    shares: Tensor | None = None

    @property
    def scene_dim(self) -> int:
        """Numbers that tell a network which scene it is in: none where there is one scene."""
        return scene_dim(self.scenes)

    def without_frames(self) -> Recording:
        """The same without its frames, most of what it holds, once they are encoded."""
        return replace(self, frames=self.frames[:0].clone())

    def chunk_ends(self, chunk: int, chunks_before: int = 0) -> Tensor:
        """Indices at which a chunk can end, with at least `chunks_before` whole chunks before it in its episode."""
        index = torch.arange(len(self.first), device=self.first.device)
        return index[index - self.first >= chunk * (chunks_before + 1) - 1]

    def chunks(self, ends_B: Tensor, chunk: int) -> Tensor:
        """uint8 (B, chunk, H, W, 3): the frames up to and with each end. Of frames on the device alone."""
        return self.frames[ends_B[:, None] + torch.arange(1 - chunk, 1, device=ends_B.device)]

    def draw_chunks(self, ends: Tensor, rows: int, chunk: int, generator: torch.Generator) -> Tensor:
        """`chunks` of so many of `ends`, all of them equally likely."""
        pick = torch.randint(len(ends), (rows,), device=ends.device, generator=generator)
        return self.chunks(ends[pick], chunk)


def draw_ends(recording: Recording, ends: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Some of `ends`, (rows,): all of them equally likely, or each scene by its share where the recording has shares.

    Args:
        ends: (n,) frames at which a chunk ends, ascending.
    """
    if recording.shares is None:
        return ends[torch.randint(len(ends), (rows,), device=ends.device, generator=generator)]
    scenes = torch.arange(len(recording.scenes) + 1, device=ends.device)
    begin = torch.searchsorted(recording.scene[ends], scenes)
    count = begin.diff()
    share = (recording.shares.double() * (count > 0)).cumsum(0)
    draw, place = torch.rand(2, rows, device=ends.device, generator=generator, dtype=torch.float64)
    scene = torch.searchsorted(share / share[-1], draw, right=True)
    return ends[begin[scene] + (place * count[scene]).long()]


def load_recordings(
    folders: Sequence[Path],
    device: torch.device,
    *,
    part: int = 0,
    parts: int = 1,
    mapped: bool = False,
    shares: Sequence[float] | None = None,
) -> Recording:
    """Reads data sets that `helios-world collect` made, or every `parts`-th shard of each from number `part` on.

    Args:
        mapped: frames stay on disk, to be encoded from there; all else is on the device.
        shares: positive, `Recording.shares` of any sum, one for each folder.

    Raises:
        UserError: a folder is not a data set, is damaged, or has fewer shards than parts; two are of one scene.
    """
    facts = [read_facts(folder) for folder in folders]
    scenes = tuple(fact["scene"] for fact in facts)
    if len(set(scenes)) < len(scenes):
        raise UserError(f"data sets of scenes {', '.join(scenes)}: give one for each scene")
    shards = [
        (index, _open_shard(folder, f"{number:03d}"))
        for index, (folder, fact) in enumerate(zip(folders, facts, strict=True))
        for number in _numbers(folder, fact, part, parts)
    ]
    first, offset = [], 0
    for _, shard in shards:
        first.append(np.searchsorted(shard["episodes"], shard["episodes"]) + offset)
        offset += len(shard["episodes"])
    joined = {name: np.concatenate([shard[name] for _, shard in shards]) for name in ARRAYS if name != "frames"}
    scene = np.repeat([index for index, _ in shards], [len(shard["episodes"]) for _, shard in shards])
    on_device = (torch.from_numpy(array).to(device) for array in (joined["actions"], np.concatenate(first), scene))
    rest = (torch.from_numpy(joined[name]).to(device) for name in ("outcomes", "stats", "actors"))
    frames = MappedFrames([shard["frames"] for _, shard in shards])
    drawn = None if shares is None else torch.tensor(shares, device=device) / sum(shares)
    frames = frames if mapped else _upload(frames, device)
    return Recording(frames, *on_device, joined["poses"], *rest, scenes, tuple(facts), drawn)


def _numbers(folder: Path, facts: dict, part: int, parts: int) -> range:
    if facts["workers"] < parts:
        raise UserError(f"{folder} has {facts['workers']} shards: {parts} processes need as many")
    return range(part, facts["workers"], parts)


def _open_shard(folder: Path, stem: str) -> dict[str, np.ndarray]:
    try:
        return {name: np.load(folder / f"{stem}.{name}.npy", mmap_mode="r") for name in ARRAYS}
    except (OSError, ValueError) as error:
        raise not_a_data_set(folder, error) from None


def _upload(mapped: MappedFrames, device: torch.device) -> Tensor:
    """All of them as one tensor on the device, without a second copy in memory."""
    frames = torch.empty((len(mapped), *mapped[:0].shape[1:]), dtype=torch.uint8, device=device)
    for low in range(0, len(mapped), 8192):
        frames[low : low + 8192] = mapped[low : low + 8192].to(device)
    return frames


@torch.no_grad()
def encode_recording(vae: VideoVAE, recording: Recording, batch: int = 128) -> Tensor:
    """Latents (n, C, h, w) of the chunk ending at every frame, so that windows can start anywhere.

    A chunk that would begin before its episode repeats the first frame. Frames on disk are uploaded for `batch` chunks
    at a time.
    """
    chunk = vae.config.frames
    steps = torch.arange(1 - chunk, 1, device=recording.first.device)
    latents = None
    for low in range(0, len(recording.first), batch):
        ends = torch.arange(low, min(low + batch, len(recording.first)), device=recording.first.device)
        begin = max(0, low + 1 - chunk)
        index = (ends[:, None] + steps).clamp(min=recording.first[ends][:, None]) - begin
        frames = recording.frames[begin : low + batch].to(ends.device)
        with mixed_precision(ends.device):
            part = vae.encode(frames[index])[:, :, 0]
        if latents is None:
            shape = len(recording.first), *part.shape[1:]
            latents = torch.empty(shape, dtype=DTYPES[quick_dtype(part.device)], device=part.device)
        latents[ends] = part.to(latents.dtype)
    assert latents is not None, "a recording has frames"
    return latents


@dataclass(frozen=True)
class WindowSource:
    """Draws windows from encoded frames.

    Attributes:
        latents: (n, C, h, w), the chunk ending at each frame.
        history: latent frames of history.
        chunk: RGB frames per latent frame.
        max_anchor_age: chunks between the anchor and the chunk to predict, at most.
    """

    latents: Tensor
    recording: Recording
    history: int
    chunk: int
    max_anchor_age: int = 260

    def draw(self, ends_B: Tensor, generator: torch.Generator) -> Window:
        """The windows whose chunk ends at `ends_B`, with anchors of random age."""
        device, first = ends_B.device, self.recording.first[ends_B]
        available = (ends_B - first - self.chunk + 1) // self.chunk
        age = 1 + (torch.rand(len(ends_B), device=device, generator=generator) * available).long()
        age = age.clamp(max=self.max_anchor_age)
        anchor = self.latents[ends_B - self.chunk * age]
        return Window(self.past(ends_B), anchor[:, :, None], *self.target(ends_B), age, self.weight(ends_B))

    def past(self, ends_B: Tensor) -> Tensor:
        """`Window.history` of the chunks that end at `ends_B`."""
        index = ends_B[:, None] - self.chunk * torch.arange(self.history, 0, -1, device=ends_B.device)
        known = index - self.recording.first[ends_B][:, None] >= self.chunk - 1
        return (self.latents[index.clamp(min=0)] * known[:, :, None, None, None]).transpose(1, 2)

    def target(self, ends_B: Tensor) -> tuple[Tensor, Tensor]:
        """The chunks that end at `ends_B`, (B, C, 1, h, w), and `Window.actions` of them."""
        actions = self.recording.actions[self._frames(ends_B)].flatten(1)
        if self.recording.scene_dim:
            scene = F.one_hot(self.recording.scene[ends_B], self.recording.scene_dim)
            actions = torch.cat([actions, scene], dim=1)
        return self.latents[ends_B][:, :, None], actions[:, None].float()

    def weight(self, ends_B: Tensor) -> Tensor:
        """`Window.weight` of the chunks that end at `ends_B`: 1 + 9 c, of a cell that monsters cover by c from 0 to 1
        in the frame of the chunk where they cover it most."""
        covered = self.recording.actors[self._frames(ends_B)].amax(dim=1) / 255
        return 1 + ACTOR_WEIGHT * covered[:, None, None]

    def _frames(self, ends_B: Tensor) -> Tensor:
        """(B, chunk), the frames of the chunks that end at `ends_B`."""
        return ends_B[:, None] + torch.arange(1 - self.chunk, 1, device=ends_B.device)
