"""A world is a value and a step is a function: `WorldState`, and the `WorldModel` contract every generator fulfils."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from helios_world.card import WorldCard
from helios_world.errors import UserError
from helios_world.prompts import PromptTrack

Frames = np.ndarray  # uint8 (..., frames, height, width, 3), RGB


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a chunk came to, in a world whose card says `outcomes`; as it is by default in others.

    Attributes:
        reward: that it brought.
        terminated: the game ended in it.
        reward_chance, end_chance: calibrated probabilities, 0 to 1, that a reward came and that the game ended.
    """

    reward: float = 0.0
    terminated: bool = False
    reward_chance: float = 0.0
    end_chance: float = 0.0


@dataclass(frozen=True, slots=True)
class WorldState:
    """All there is to a world between two steps. Never changed in place.

    Attributes:
        history: clean latents of the recent past, oldest first, (channels, frames, height, width); zeros for none.
        anchor: first latent frame of the session, (channels, 1, height, width).
        scene: name of the scene.
        seed: of all noise in this world.
        chunk: index of the next chunk. Noise is a function of (seed, chunk, denoise step) alone.
        prompts: what the world is told, now and later; None in a world that takes no prompt.
        first: the next chunk is the first that this world makes, which some samplers take more steps for.
        outcome: what the newest chunk came to. It belongs to that chunk and not to the future, so a snapshot does not
            hold it: after a reset or a restore it is the default.
    """

    history: Any
    anchor: Any
    scene: str
    seed: int
    chunk: int
    prompts: PromptTrack | None = None
    first: bool = False
    outcome: Outcome = Outcome()


def step_on(state: WorldState, history: Any, anchor: Any, outcome: Outcome = Outcome()) -> WorldState:
    """The state after one more chunk, with these latents, which came to `outcome`."""
    prompts = state.prompts and state.prompts.at(state.chunk + 1)
    changes = {"history": history, "anchor": anchor, "prompts": prompts, "outcome": outcome}
    return replace(state, chunk=state.chunk + 1, first=False, **changes)


@dataclass(frozen=True, slots=True)
class Start:
    """What a session starts from. With no material: a stored start of the scene, picked by the seed, or its prompt.

    Attributes:
        image: (height, width, 3) uint8; the world starts as if it had stood still there.
        video: (frames, height, width, 3) uint8; the world goes on after its last frame.
        actions: (frames, buttons), the action of row t being the one that led to frame t. Needs `video`.
        prompt: what is to be seen, instead of the scene's own words; only in a world that takes prompts.
    """

    image: np.ndarray | None = None
    video: np.ndarray | None = None
    actions: np.ndarray | None = None
    prompt: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether neither material nor a prompt is given."""
        return self.image is None and self.video is None and self.prompt is None

    def check(self, card: WorldCard) -> Start:
        """Itself, or UserError naming what does not fit `card`."""
        if self.prompt is not None:
            card.check_prompts()
            if not isinstance(self.prompt, str):
                raise UserError(f"prompt is a {type(self.prompt).__name__}: must be text")
        if self.image is not None and self.video is not None:
            raise UserError("give an image or a video to start from, not both")
        if self.image is not None:
            _check_frames("image", self.image, (), card)
        if self.video is not None:
            _check_frames("video", self.video, ("frames",), card)
            if len(self.video) < card.frames_per_chunk:
                raise UserError(
                    f"video has {len(self.video)} frames: at least {card.frames_per_chunk} (one chunk) are needed"
                )
        if self.actions is not None:
            if self.video is None:
                raise UserError("actions to start from need the video that they led to")
            wanted = (len(self.video), len(card.buttons))
            if np.shape(self.actions) != wanted:
                raise UserError(
                    f"actions have shape {np.shape(self.actions)}: must be {wanted} (frames of the video, buttons)"
                )
        return self


class WorldModel(Protocol):
    """What turns one state and one action into frames and the next state. Holds weights, never a session.

    Same state and same actions give the same frames, bit for bit for one device, number format and batch size.
    """

    card: WorldCard

    def reset(self, scene: str, *, seed: int = 0, start: Start = Start()) -> tuple[WorldState, Frames]:
        """A new world and the chunk that it starts from: frames (frames_per_chunk, height, width, 3).

        That chunk has index 0; it is made from a prompt alone where there is nothing else to start from.
        """

    def step(
        self, states: Sequence[WorldState], actions: np.ndarray, contexts: Sequence[Any] | None = None
    ) -> tuple[list[WorldState], Frames]:
        """One chunk for each state.

        Args:
            actions: float32 (states, frames_per_chunk, buttons).
            contexts: what `prepare` gave for these states, to save its time now.
        Returns:
            the next states, each with what its chunk came to, and uint8 frames (states, frames_per_chunk, height,
            width, 3).
        """

    def prepare(self, state: WorldState) -> Any:
        """The part of the next step that needs no action, worked out ahead. Changes no result beyond rounding."""

    def to_arrays(self, state: WorldState) -> Mapping[str, np.ndarray]:
        """`history` and `anchor` as numpy arrays, lossless."""

    def from_arrays(self, arrays: Mapping[str, np.ndarray], head: WorldState) -> WorldState:
        """The inverse of `to_arrays`: `head` with its arrays. UserError if their shapes are not this world's."""


def _check_frames(name: str, frames: np.ndarray, leading: tuple[str, ...], card: WorldCard) -> None:
    shape, dtype = np.shape(frames), getattr(frames, "dtype", None)
    if len(shape) != len(leading) + 3 or shape[-3:] != card.frame_shape or dtype != np.uint8:
        wanted = ", ".join((*leading, *map(str, card.frame_shape)))
        raise UserError(f"{name} is {dtype} of shape {shape}: must be uint8 ({wanted})")
