"""A released Helios checkpoint as a WorldModel: text, an image or a video to a world that prompts and buttons steer.

Shapes: B states, C latent channels, T latent frames of a chunk, H W latent size, A buttons, L D text rows and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helios_world.card import WorldCard
from helios_world.clip import FRAMES_PER_LATENT, latents_of, video_chunks
from helios_world.config import SamplerConfig
from helios_world.device import DTYPES, pick_device, quick_dtype, to_host
from helios_world.diffusers_layout import load_transformer, read_config, read_sampler
from helios_world.drift import correct_history
from helios_world.embeddings import PromptEmbeddings
from helios_world.engine_options import EngineOptions
from helios_world.errors import PackError, UserError, check_name
from helios_world.footprint import check_room
from helios_world.latents import latents_from_arrays, latents_to_arrays
from helios_world.model.dit import VideoDiT
from helios_world.model.memory import split_memory
from helios_world.model.offload import stream_blocks
from helios_world.model.text import TextEncoder
from helios_world.model.wan import WanVAE
from helios_world.pack import Pack, Words
from helios_world.prompts import PromptTrack
from helios_world.sampling.guidance import VelocityFn
from helios_world.sampling.history import Past, extend_past, past_of_image, past_of_nothing, past_of_video
from helios_world.sampling.pyramid import sample_chunk, seeded_noise
from helios_world.sampling.schedule import check_size
from helios_world.steering import PromptSteering
from helios_world.world import Frames, Start, WorldState, step_on


class ReleasedGenerator:
    """Turns states and actions into frames. Holds weights, never a session; fulfils `world.WorldModel`."""

    deliver: Callable[[Tensor], Frames] = staticmethod(to_host)  # what leaves `reset` and `step`; see nvjpeg.py

    def __init__(
        self,
        card: WorldCard,
        transformer: VideoDiT,
        vae: WanVAE,
        embeddings: PromptEmbeddings,
        sampler: SamplerConfig,
        words: Words,
        drift_correction: float = 0.0,
    ):
        """Args:
        drift_correction: of the history, where the network sees it.
        """
        self.card = card
        self.transformer = transformer.eval().requires_grad_(False)
        self.vae, self.embeddings, self.sampler = vae, embeddings, sampler
        self.drift_correction = drift_correction
        self.prompts, self.negative = words.scenes, words.negative
        self.steering = PromptSteering.from_dict(words.steering, card.buttons)
        self.latents = latents_of(card.frames_per_chunk)

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.dtype

    @property
    def device(self) -> torch.device:
        return self.vae.device

    @property
    def history_length(self) -> int:
        return sum(self.transformer.config.history_sizes)

    @property
    def chunk_shape(self) -> tuple[int, int, int, int]:
        """(C, T, H, W)."""
        scale = self.vae.scale
        return self.vae.channels, self.latents, self.card.height // scale, self.card.width // scale

    @torch.inference_mode()
    def reset(self, scene: str, *, seed: int = 0, start: Start = Start()) -> tuple[WorldState, Frames]:
        """A new world: of an image or a video, or of the prompt alone, which then makes chunk 0."""
        check_name("scene", scene, self.prompts)
        prompt = self.prompts[scene] if start.prompt is None else start.prompt
        from_text = start.image is None and start.video is None
        past, shown = self._begin(start, torch.Generator().manual_seed(seed))
        chunk = 0 if from_text else 1
        prompts = PromptTrack.start(prompt, chunk)
        state = WorldState(past.history_BCTHW[0], past.anchor_BC1HW[0], scene, seed, chunk, prompts, first=True)
        if not from_text:
            return state, shown
        (state,), frames = self.step([state], np.zeros((1, self.card.frames_per_chunk, len(self.card.buttons))))
        return state, frames[0]

    def _begin(self, start: Start, generator: torch.Generator) -> tuple[Past, Frames]:
        """The past of a first chunk, and frames to show before it. Draws as the public pipelines do."""
        frames, length = self.card.frames_per_chunk, self.history_length
        if start.image is not None:
            still = np.repeat(start.image[None], frames, 0)
            image, clip = self._encode(still[:1], generator), self._encode(still, generator)
            return past_of_image(image, clip, length, generator), still
        if start.video is not None:
            first = self._encode(start.video[:1], generator)
            parts = video_chunks(len(start.video), self.latents)
            video = torch.cat([self._encode(start.video[p.start : p.stop], generator) for p in parts], dim=2)
            return past_of_video(first, video, length, generator, chunk=self.latents), start.video[-frames:].copy()
        return past_of_nothing(torch.empty(1, *self.chunk_shape, device=self.device), length), np.empty(0)

    @torch.inference_mode()
    def prepare(self, state: WorldState) -> None:
        """Has the embeddings of all that the next buttons may say, so that no key has to wait for the text encoder."""
        texts = (text for prompt, _ in state.prompts.blend() for text in self.steering.texts(prompt))
        self.embeddings.warm(texts)

    @torch.inference_mode()
    def step(
        self, states: Sequence[WorldState], actions: np.ndarray, contexts: Sequence[None] | None = None
    ) -> tuple[list[WorldState], Frames]:
        """One chunk for each state; those in their first chunk take steps of their own, and so a batch of their own."""
        try:
            return self._step(states, actions)
        except torch.OutOfMemoryError:
            height, width, _ = self.card.frame_shape
            what = f"{len(states)} world{'s' * (len(states) > 1)} of {height}x{width} at a time"
            raise UserError(
                f"too little memory for {what}: try --offload, fewer --latents or a smaller --size"
            ) from None

    def _step(self, states: Sequence[WorldState], actions: np.ndarray) -> tuple[list[WorldState], Frames]:
        following: dict[int, WorldState] = {}
        shape = (len(states), self.card.frames_per_chunk, *self.card.frame_shape)
        frames = torch.empty(shape, dtype=torch.uint8, device=self.device)
        order = sorted(range(len(states)), key=lambda i: states[i].first)
        for first, group in groupby(order, key=lambda i: states[i].first):
            rows = list(group)
            batch = [states[i] for i in rows]
            past = Past(*(torch.stack([getattr(s, name) for s in batch]) for name in ("history", "anchor")))
            seen = torch.stack([correct_history(s.history, s.anchor, self.drift_correction) for s in batch])
            latents = self.sample(batch, past._replace(history_BCTHW=seen), actions[rows], first=first)
            past = extend_past(past, latents)
            for row, state, history, anchor in zip(rows, batch, *past, strict=True):
                following[row] = step_on(state, history, anchor)
            frames[rows] = self.vae.decode(latents)
        return [following[row] for row in range(len(states))], self.deliver(frames)

    def sample(self, states: Sequence[WorldState], past: Past, actions_BFA: np.ndarray, *, first: bool) -> Tensor:
        """Clean latents (B, C, T, H, W) of the next chunk of each state, which has this past."""
        said = [
            self.embeddings.blend(self.steering.steer(state.prompts.blend(), held))
            for state, held in zip(states, actions_BFA, strict=True)
        ]
        told = self._velocity(past, torch.stack(said), actions_BFA)
        untold = None
        if self.sampler.guided:
            negative = self.embeddings.fetch([self.negative])[0].expand(len(states), -1, -1)
            untold = self._velocity(past, negative, actions_BFA)
        return sample_chunk(
            told,
            seeded_noise([(state.seed, state.chunk) for state in states], self.device),
            (len(states), *self.chunk_shape),
            self.sampler,
            unconditional=untold,
            first_chunk=first,
            patch_size=self.transformer.config.patch_size,
        )

    def to_arrays(self, state: WorldState) -> Mapping[str, np.ndarray]:
        return latents_to_arrays(state)

    def from_arrays(self, arrays: Mapping[str, np.ndarray], head: WorldState) -> WorldState:
        if head.prompts is None:
            raise UserError("snapshot holds no prompts: it is not of a world that is told in words")
        channels, _, height, width = self.chunk_shape
        return latents_from_arrays(arrays, head, (channels, self.history_length, height, width), self.device)

    def _velocity(self, past: Past, text_BLD: Tensor, actions_BFA: np.ndarray) -> VelocityFn:
        """The network after this past, told this; it knows the buttons only if it has an action adapter."""
        memory = split_memory(*(part.to(self.dtype) for part in past), self.transformer.config.history_sizes)
        text = text_BLD.to(self.dtype)
        held = None
        if self.transformer.config.action_dim:
            held = torch.from_numpy(actions_per_latent(actions_BFA)).to(self.device, self.dtype)

        def velocity(z: Tensor, timestep: float) -> Tensor:
            t = torch.full((len(z),), timestep, device=self.device)
            return self.transformer(z.to(self.dtype), t, memory, held, text)

        return velocity

    def _encode(self, frames: Frames, generator: torch.Generator) -> Tensor:
        """One clip, uint8 (F, h, w, 3), to latents (1, C, T, H, W) drawn from its posterior."""
        return self.vae.encode(torch.from_numpy(np.ascontiguousarray(frames))[None], generator)


def actions_per_latent(actions_BFA: np.ndarray) -> np.ndarray:
    """Buttons by latent frame, float32 (B, T, 4 A): those of its four RGB frames; the first one's only frame counts
    four times."""
    batch, _, buttons = actions_BFA.shape
    padded = np.concatenate([actions_BFA[:, :1].repeat(FRAMES_PER_LATENT - 1, axis=1), actions_BFA], axis=1)
    return padded.reshape(batch, -1, FRAMES_PER_LATENT * buttons).astype(np.float32)


def load_released(pack: Pack, options: EngineOptions) -> ReleasedGenerator:
    """The generator of a pack with words, its networks from the checkpoint at `options.weights`.

    Raises:
        UserError: no checkpoint given, a size or number of steps that does not fit it, too little memory.
        PackError: a folder that is not a Helios checkpoint, or a damaged one.
        MissingExtra: diffusers, transformers or ftfy are not installed.
    """
    if options.weights is None:
        raise UserError(f"world {pack.card.name!r} needs --weights: the folder of a Helios checkpoint")
    checkpoint = Path(options.weights).expanduser()
    sampler = _with_steps(read_sampler(checkpoint), options.steps)
    card = options.fit(pack.card, checkpoint=True)
    config = read_config(checkpoint / "transformer")
    check_size(card.height, card.width, len(sampler.steps))
    device = pick_device(options.device)
    dtype = DTYPES[_pick_dtype(options.dtype, device)]
    check_room(config, dtype, device, offload=options.offload)
    idle = "disk" if options.offload else "cpu"
    encoder = TextEncoder(checkpoint, dtype=dtype, device=str(device), idle=idle)
    if config.text_dim != encoder.width:
        raise PackError(
            f"{checkpoint}: its text has {encoder.width} numbers a row: the transformer reads {config.text_dim}"
        )
    told = FRAMES_PER_LATENT * len(card.buttons)
    if config.action_dim not in (0, told):
        found = f"its actions are {config.action_dim} numbers a latent frame"
        raise PackError(f"{checkpoint}: {found}: {len(card.buttons)} buttons make {told}")
    vae = WanVAE.load(checkpoint / "vae", device=str(device))
    transformer = load_transformer(
        checkpoint / "transformer", dtype=dtype, device="cpu" if options.offload else str(device)
    )
    if options.offload:
        transformer = stream_blocks(transformer, device)
    return ReleasedGenerator(
        card, transformer, vae, PromptEmbeddings(encoder), sampler, pack.words, options.drift_correction
    )


def _pick_dtype(name: str, device: torch.device) -> str:
    """The number format of this name; for "auto" bfloat16 on a GPU, else float32."""
    if name == "auto":
        return quick_dtype(device)
    return check_name("dtype", name, ("auto", *DTYPES))


def _with_steps(sampler: SamplerConfig, steps: Iterable[int] | None) -> SamplerConfig:
    if steps is None:
        return sampler
    steps = tuple(steps)
    if len(steps) != len(sampler.steps):
        wanted = f"{len(sampler.steps)} number{'s' * (len(sampler.steps) > 1)}, one per pyramid level"
        raise UserError(f"steps {','.join(map(str, steps))}: this checkpoint takes {wanted}")
    return replace(sampler, steps=steps)
