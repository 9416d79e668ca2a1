"""Live worlds: sessions that share one model and one batch. One thread at a time may use an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from helios_world.action import NOOP, Action, encode_actions
from helios_world.card import WorldCard
from helios_world.errors import UserError
from helios_world.prompts import PromptTrack
from helios_world.snapshot import dump_snapshot, load_snapshot
from helios_world.world import Frames, Outcome, Start, WorldModel, WorldState


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one world step made.

    Attributes:
        index: 0 for the chunk a session starts from, then 1, 2, ...
        frames: uint8 (frames_per_chunk, height, width, 3).
        seconds: wall time that making it took, shared by the batch it was made in.
        outcome: reward and end, in a world whose card says `outcomes`. A world can be stepped after its end.
    """

    index: int
    frames: Frames
    seconds: float
    outcome: Outcome = Outcome()


class Session:
    """One live world. `bridge.client.RemoteSession` has the same verbs."""

    def __init__(self, engine: WorldEngine, state: WorldState):
        self._engine = engine
        self.state = state
        self.context: Any = None  # what engine.prepare worked out for `state`

    @property
    def card(self) -> WorldCard:
        return self._engine.card

    def reset(self, scene: str | None = None, *, seed: int = 0, start: Start = Start()) -> Chunk:
        """Starts a new world in this session."""
        self.state, chunk = self._engine.start(scene, seed=seed, start=start)
        self.context = None
        return chunk

    def step(self, action: Action = NOOP) -> Chunk:
        """One chunk under `action`, held for all its frames."""
        return self._engine.step([self], [action])[0]

    def change_prompt(self, prompt: str, *, over: int = 1) -> None:
        """Towards `prompt` from the next chunk on, over `over` chunks; 1 is a cut. What is queued stays.

        Raises:
            UserError: a world that takes no prompt; `over` is less than 1. So do the two verbs below.
        """
        self._tell(lambda prompts: prompts.change(prompt, over=over))

    def queue_prompt(self, prompt: str, *, after: int | None = None, over: int = 1) -> None:
        """Towards `prompt` later: `after` chunks after the last change begins, or when that is done."""
        self._tell(lambda prompts: prompts.queue(prompt, after=after, over=over))

    def cancel_prompts(self) -> None:
        """Drops what is queued; a change that runs goes on."""
        self._tell(lambda prompts: prompts.cancel())

    def _tell(self, change: Callable[[PromptTrack], PromptTrack]) -> None:
        self.card.check_prompts()
        self.state = replace(self.state, prompts=change(self.state.prompts))

    def snapshot(self) -> bytes:
        """This world as bytes; see `snapshot.py` for the format."""
        return dump_snapshot(self._engine.model, self.state)

    def restore(self, snapshot: bytes) -> None:
        """Goes back, or over, to the world in `snapshot`."""
        self.state = load_snapshot(self._engine.model, snapshot)
        self.context = None

    def fork(self) -> Session:
        """A twin: the same world from here on, as long as it gets the same actions."""
        twin = Session(self._engine, self.state)
        twin.context = self.context
        return twin

    def close(self) -> None:
        """Nothing is held beyond the value itself; here for the verbs to match the remote session's."""


class WorldEngine:
    """Steps any number of sessions of one model, up to `max_batch` in one forward."""

    def __init__(self, model: WorldModel, *, max_batch: int = 8):
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}: must be at least 1")
        self.model = model
        self.max_batch = max_batch

    @property
    def card(self) -> WorldCard:
        return self.model.card

    def open(self, scene: str | None = None, *, seed: int = 0, start: Start = Start()) -> tuple[Session, Chunk]:
        """A new session and the chunk that it starts from."""
        state, chunk = self.start(scene, seed=seed, start=start)
        return Session(self, state), chunk

    def start(self, scene: str | None, *, seed: int, start: Start) -> tuple[WorldState, Chunk]:
        """A new world as a value, and its chunk 0. UserError for an unknown scene or material that does not fit."""
        began = time.perf_counter()
        state, frames = self.model.reset(self.card.check_scene(scene), seed=seed, start=start.check(self.card))
        return state, Chunk(0, frames, time.perf_counter() - began)

    def step(self, sessions: Sequence[Session], actions: Sequence[Action]) -> list[Chunk]:
        """One chunk for each session. All states change, or none does."""
        rows = encode_actions(actions, self.card.buttons, self.card.frames_per_chunk, self.card.mouse)
        results: list[tuple[Session, WorldState, Chunk]] = []
        for low in range(0, len(sessions), self.max_batch):
            batch = sessions[low : low + self.max_batch]
            began = time.perf_counter()
            states, frames = self.model.step(
                [s.state for s in batch], rows[low : low + self.max_batch], [s.context for s in batch]
            )
            seconds = time.perf_counter() - began
            for session, state, made in zip(batch, states, frames, strict=True):
                results.append((session, state, Chunk(session.state.chunk, made, seconds, state.outcome)))
        for session, state, _ in results:
            session.state, session.context = state, None
        return [chunk for _, _, chunk in results]

    def prepare(self, sessions: Sequence[Session]) -> None:
        """Works ahead for sessions that wait for an action, so that their next step answers sooner."""
        for session in sessions:
            if session.context is None:
                session.context = self.model.prepare(session.state)
