"""The Helios generator as a WorldModel: networks, sampler and starting contexts of one pack."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from helios_world.card import WorldCard
from helios_world.checkpoint import load_into, load_weights
from helios_world.config import SamplerConfig
from helios_world.device import DTYPES, pick_device, to_host
from helios_world.drift import correct_history, raise_contrast
from helios_world.errors import PackError, check_name
from helios_world.latents import latents_from_arrays, latents_to_arrays
from helios_world.model.dit import HistoryContext, VideoDiT
from helios_world.model.memory import Memory, split_memory
from helios_world.model.outcome import OutcomeNetwork
from helios_world.model.vae import VideoVAE
from helios_world.pack import OUTCOME, STARTS, TRANSFORMER, VAE, Pack, read_pack
from helios_world.sampling.pyramid import sample_pyramid, seeded_noise, seeded_uniform
from helios_world.sampling.schedule import pyramid_levels
from helios_world.world import Frames, Outcome, Start, WorldState, step_on


class Generator:
    """Turns states and actions into frames. Holds weights, never a session; fulfils `world.WorldModel`."""

    deliver: Callable[[Tensor], Frames] = staticmethod(to_host)  # what leaves `reset` and `step`; see nvjpeg.py

    def __init__(
        self,
        card: WorldCard,
        transformer: VideoDiT,
        vae: VideoVAE,
        sampler: SamplerConfig,
        starts: Mapping[str, Tensor],
        drift_correction: float = 0.0,
        *,
        outcome: OutcomeNetwork | None = None,
    ):
        """Args:
        starts: per scene, clean latents (starts, channels, sum(history_sizes), height, width) to start from.
        drift_correction: of the history, where the network sees it.
        outcome: tells what chunks come to; always in float32. None where the card has no `outcomes`.
        """
        self.card = card
        self.transformer = transformer.eval().requires_grad_(False)
        self.vae = vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.sampler = sampler
        self.levels = pyramid_levels(len(sampler.steps), sampler.gamma)
        self.starts, self.drift_correction = starts, drift_correction
        self.outcome = None if outcome is None else outcome.eval().requires_grad_(False)
        self.device = vae.latent_mean.device

    @property
    def dtype(self) -> torch.dtype:
        return self.vae.latent_mean.dtype

    @property
    def history_length(self) -> int:
        return sum(self.transformer.config.history_sizes)

    @torch.inference_mode()
    def reset(self, scene: str, *, seed: int = 0, start: Start = Start()) -> tuple[WorldState, Frames]:
        """A new world; without material to start from, the seed picks one of the scene's stored starts."""
        check_name("scene", scene, self.starts)
        if start.image is not None:
            frames = np.repeat(start.image[None], self.card.frames_per_chunk, 0)
            history = self.encode(frames)
        elif start.video is not None:
            usable = len(start.video) // self.card.frames_per_chunk * self.card.frames_per_chunk
            frames = start.video[len(start.video) - usable :]
            history = self.encode(frames)
        else:
            history = self.starts[scene][seed % len(self.starts[scene])].to(self.device)
        anchor = history[:, :1].clone()
        missing = max(0, self.history_length - history.shape[1])
        padded = torch.nn.functional.pad(history, (0, 0, 0, 0, missing, 0))[:, -self.history_length :].clone()
        shown = self._decode(padded[None, :, -1:])[0]
        return WorldState(padded, anchor, scene, seed, 1), shown

    @torch.inference_mode()
    def prepare(self, state: WorldState) -> HistoryContext:
        """Keys and values of the history: the greater part of a chunk's work, and no action is needed for it."""
        return self.transformer.encode_history(self._memory([state]))

    @torch.inference_mode()
    def step(
        self, states: Sequence[WorldState], actions: np.ndarray, contexts: Sequence[HistoryContext | None] | None = None
    ) -> tuple[list[WorldState], Frames]:
        following = self.advance(states, actions, contexts)
        return following, self._decode(torch.stack([state.history[:, -1:] for state in following]))

    @torch.inference_mode()
    def advance(
        self, states: Sequence[WorldState], actions: np.ndarray, contexts: Sequence[HistoryContext | None] | None = None
    ) -> list[WorldState]:
        """`step` without its frames: what nobody looks at need not be decoded."""
        if contexts is None or any(context is None for context in contexts):
            context = self.transformer.encode_history(self._memory(states))
        else:
            context = _stack(contexts)
        conditions = self.conditions(actions, states)
        latents = self.sample(context, conditions, [(s.seed, s.chunk) for s in states])
        histories = [torch.cat([s.history[:, 1:], z], dim=1) for s, z in zip(states, latents, strict=True)]
        outcomes = self._outcomes(states, histories, conditions)
        return [step_on(s, h, s.anchor, o) for s, h, o in zip(states, histories, outcomes, strict=True)]

    @torch.inference_mode()
    def sample(self, context: HistoryContext, conditions_B1A: Tensor, keys: Sequence[tuple[int, int]]) -> Tensor:
        """Latents (B, C, 1, H, W) of the next chunk.

        Args:
            conditions_B1A: what `conditions` gives.
            keys: (seed, chunk) per row, for the noise.
        """

        def velocity(z: Tensor, timestep: float) -> Tensor:
            t = torch.full((len(z),), timestep, device=self.device)
            return self.transformer(z.to(self.dtype), t, context, conditions_B1A)

        shape = (len(keys), self.transformer.config.in_channels, 1, *self._latent_size)
        noise = seeded_noise(keys, self.device)
        return sample_pyramid(velocity, noise, shape, self.levels, self.sampler.steps, self.sampler.gamma)

    def conditions(self, actions: np.ndarray, states: Sequence[WorldState]) -> Tensor:
        """Buttons (B, frames_per_chunk, buttons) and scenes of `states`, as the transformer takes them: (B, 1, A)."""
        rows = np.asarray(actions, np.float32).reshape(len(states), -1)
        if self.transformer.config.scene_dim:
            scenes = [self.card.scenes.index(state.scene) for state in states]
            rows = np.concatenate([rows, np.eye(self.transformer.config.scene_dim, dtype=np.float32)[scenes]], axis=1)
        return torch.from_numpy(rows).to(self.device, self.dtype)[:, None]

    @torch.inference_mode()
    def encode(self, frames: Frames) -> Tensor:
        """uint8 (T, H, W, 3) to float32 latents (C, T/frames_per_chunk, h, w)."""
        return self.vae.encode(torch.from_numpy(np.ascontiguousarray(frames))[None].to(self.device))[0].float()

    @torch.inference_mode()
    def chances(self, x_BCNhw: Tensor, conditions_B1A: Tensor) -> Tensor:
        """Float32 (B, 2): that a reward came with the newest chunk, and that the game ends after it. Needs `outcome`.

        Args:
            x_BCNhw: the newest `outcome.config.window` latent frames, float32.
            conditions_B1A: what `conditions` gives, of the newest.
        """
        assert self.outcome is not None, "without an outcome network nothing is known of rewards and ends"
        return self.outcome.chances(x_BCNhw, conditions_B1A[:, 0].float())

    def to_arrays(self, state: WorldState) -> Mapping[str, np.ndarray]:
        return latents_to_arrays(state)

    def from_arrays(self, arrays: Mapping[str, np.ndarray], head: WorldState) -> WorldState:
        shape = (self.transformer.config.in_channels, self.history_length, *self._latent_size)
        return latents_from_arrays(arrays, head, shape, self.device)

    def _outcomes(
        self, states: Sequence[WorldState], histories: Sequence[Tensor], conditions_B1A: Tensor
    ) -> list[Outcome]:
        """What the newest chunks of `histories` come to.

        It is drawn: as chances are calibrated, rewards and ends come as often as in the real game; a threshold would
        never give what is seldom likely. One number decides both, because they can be one event: in the maze, finding
        the armour.
        """
        if self.outcome is None:
            return [Outcome()] * len(states)
        newest = torch.stack([history[:, -self.outcome.config.window :] for history in histories])
        outcomes = []
        for state, (reward, end) in zip(states, self.chances(newest, conditions_B1A).tolist(), strict=True):
            drawn = seeded_uniform(state.seed, state.chunk)
            outcomes.append(Outcome(float(drawn < reward), drawn < end, reward, end))
        return outcomes

    @property
    def _latent_size(self) -> tuple[int, int]:
        scale = self.vae.config.scale
        return self.card.height // scale, self.card.width // scale

    def _memory(self, states: Sequence[WorldState]) -> Memory:
        """What the network sees of the past.

        For absolute positions the anchor is as old as if the past that the world begins with were whole, with the
        anchor as its oldest frame: a start from less is taken for one from as much.
        """
        history = torch.stack([self._seen(state) for state in states])
        anchor, config, ages = torch.stack([s.anchor for s in states]), self.transformer.config, None
        if config.positions == "absolute":
            ages = torch.tensor([s.chunk - 1 + self.history_length for s in states], device=self.device)
        return split_memory(history.to(self.dtype), anchor.to(self.dtype), config.history_sizes, ages)

    def _seen(self, state: WorldState) -> Tensor:
        """The history of a world as its network is shown it: nothing is done to contrast until all of it is made up."""
        history = correct_history(state.history, state.anchor, self.drift_correction)
        made_up = state.chunk > self.history_length
        return raise_contrast(history, state.anchor, self.sampler.contrast) if made_up else history

    def _decode(self, latents_BCTHW: Tensor) -> Frames:
        return self.deliver(self.vae.decode(latents_BCTHW.to(self.dtype)))


def load_generator(
    world: str,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    steps: Sequence[int] | None = None,
    drift_correction: float = 0.0,
    contrast: float | None = None,
) -> Generator:
    """The generator of a pack.

    Args:
        world: name of a shipped pack, or a pack folder.
        dtype: "float32", "bfloat16", or "auto" for whichever a quick measurement finds faster here.
        steps: denoise steps per pyramid level, instead of the pack's own.
        drift_correction: 0 to 1, see `drift.correct_history`.
        contrast: 0 to 1, see `drift.raise_contrast`, instead of the pack's own.
    Raises:
        UserError: an unknown world, number format or device.
        PackError: files that are missing, damaged or do not fit the config.
    """
    check_name("dtype", dtype, ("auto", *DTYPES))
    place = pick_device(device)
    pack = read_pack(world)
    if pack.networks is None:
        raise PackError(f"world {pack.card.name!r} has no networks of its own: they come from a checkpoint")
    sampler = pack.networks.sampler
    sampler = sampler if steps is None else replace(sampler, steps=tuple(steps))
    sampler = sampler if contrast is None else replace(sampler, contrast=contrast)
    transformer, vae = VideoDiT(pack.networks.transformer), VideoVAE(pack.networks.autoencoder)
    load_into(transformer, pack.folder / TRANSFORMER)
    load_into(vae, pack.folder / VAE)
    outcome = _load_outcome(pack, place)
    transformer, vae = transformer.to(place), vae.to(place)
    generator = Generator(pack.card, transformer, vae, sampler, _load_starts(pack), drift_correction, outcome=outcome)
    return fastest(generator) if dtype == "auto" else cast(generator, DTYPES[dtype])


def cast(generator: Generator, dtype: torch.dtype) -> Generator:
    """The same generator, from now on computing in `dtype`; outcomes in float32 as ever, which cost little."""
    generator.transformer.to(dtype)
    generator.vae.to(dtype)
    return generator


def fastest(generator: Generator) -> Generator:
    """In float32 or bfloat16, by timing a chunk in each: processors without bf16 units are slower with it."""
    candidates = [generator, cast(copy.deepcopy(generator), torch.bfloat16)]
    return min(candidates, key=_chunk_seconds)


def _chunk_seconds(generator: Generator) -> float:
    state, _ = generator.reset(generator.card.scenes[0])
    actions = np.zeros((1, generator.card.frames_per_chunk, len(generator.card.buttons)), np.float32)
    timed = []
    for _ in range(3):
        began = time.perf_counter()
        generator.step([state], actions)
        timed.append(time.perf_counter() - began)
    return min(timed)


def _stack(contexts: Sequence[HistoryContext]) -> HistoryContext:
    if len(contexts) == 1:
        return contexts[0]
    layers = zip(*(context.layers for context in contexts), strict=True)
    joined = tuple(tuple(torch.cat(parts) for parts in zip(*layer, strict=True)) for layer in layers)
    return HistoryContext(joined, contexts[0].grid)


def _load_outcome(pack: Pack, place: torch.device) -> OutcomeNetwork | None:
    if pack.networks is None or pack.networks.outcome is None:
        return None
    network = OutcomeNetwork(pack.networks.outcome)
    load_into(network, pack.folder / OUTCOME)
    return network.to(place, memory_format=torch.channels_last)


def _load_starts(pack: Pack) -> dict[str, Tensor]:
    starts = load_weights(pack.folder / STARTS)
    for scene in pack.card.scenes:
        if scene not in starts:
            raise PackError(f"{pack.folder / STARTS} lacks starts for scene {scene!r}")
    return starts
