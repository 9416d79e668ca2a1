"""A world without weights, and the test that every WorldModel must pass. Nothing that players use imports this."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

import numpy as np

from helios_world.card import WorldCard
from helios_world.errors import UserError
from helios_world.mouse import Mouse
from helios_world.prompts import PromptTrack
from helios_world.world import Frames, Outcome, Start, WorldModel, WorldState, step_on

FAKE_CARD = WorldCard(
    name="fake",
    height=64,
    width=80,
    fps=17.5,
    frames_per_chunk=4,
    buttons=("forward", "back", "strafe_left", "strafe_right", "turn_left", "turn_right", "attack"),
    scenes=("maze", "hall"),
    bindings={"w": "forward", "s": "back", "left": "turn_left", "right": "turn_right", "space": "attack"},
    mouse=Mouse(30.0, left="turn_left", right="turn_right"),
)
GAME_CARD = replace(FAKE_CARD, outcomes=True)


class FakeWorldModel:
    """Vertical bars: turn_left scrolls them right, turn_right left, attack brightens; grain by (seed, chunk).

    Where the card says `outcomes`, attack brings a reward of 1 and back ends the game, when held for most of a chunk.
    Exact and fast; `seconds` makes each step last that long.
    """

    def __init__(self, card: WorldCard = FAKE_CARD, *, seconds: float = 0.0):
        self.card = card
        self.seconds = seconds

    def reset(self, scene: str, *, seed: int = 0, start: Start = Start()) -> tuple[WorldState, Frames]:
        self.card.check_scene(scene)
        heading = float(np.random.default_rng((seed, 0)).integers(self.card.width))
        prompts = (
            PromptTrack.start(scene if start.prompt is None else start.prompt, 1) if self.card.takes_prompt else None
        )
        state = WorldState(
            np.full((1, 1, 1, 1), heading, np.float32), np.zeros((1, 1, 1, 1), np.float32), scene, seed, 1, prompts
        )
        if start.image is not None:
            return state, np.repeat(start.image[None], self.card.frames_per_chunk, 0)
        if start.video is not None:
            return state, start.video[-self.card.frames_per_chunk :].copy()
        idle = np.zeros((self.card.frames_per_chunk, len(self.card.buttons)), np.float32)
        return state, self._render(state, idle)[0]

    def step(
        self, states: Sequence[WorldState], actions: np.ndarray, contexts: Sequence[Any] | None = None
    ) -> tuple[list[WorldState], Frames]:
        time.sleep(self.seconds)
        made = [self._render(state, rows) for state, rows in zip(states, actions, strict=True)]
        following = [
            step_on(s, np.full_like(s.history, heading), s.anchor, self._outcome(rows))
            for s, rows, (_, heading) in zip(states, actions, made, strict=True)
        ]
        return following, np.stack([frames for frames, _ in made])

    def prepare(self, state: WorldState) -> Any:
        return state.chunk

    def to_arrays(self, state: WorldState) -> Mapping[str, np.ndarray]:
        return {"history": state.history, "anchor": state.anchor}

    def from_arrays(self, arrays: Mapping[str, np.ndarray], head: WorldState) -> WorldState:
        if set(arrays) != {"history", "anchor"} or arrays["history"].shape != (1, 1, 1, 1):
            raise UserError(f"snapshot holds {sorted(arrays)}: must hold history and anchor of shape (1, 1, 1, 1)")
        return replace(head, history=arrays["history"], anchor=arrays["anchor"])

    def _outcome(self, rows: np.ndarray) -> Outcome:
        if not self.card.outcomes:
            return Outcome()
        held = dict(zip(self.card.buttons, rows.mean(0).tolist(), strict=True))
        reward, end = held.get("attack", 0.0), held.get("back", 0.0)
        return Outcome(float(reward > 0.5), end > 0.5, reward, end)

    def _render(self, state: WorldState, rows: np.ndarray) -> tuple[Frames, float]:
        """Frames of the chunk and the heading after it, in pixels."""
        card = self.card
        turn = {"turn_left": 3.0, "turn_right": -3.0}
        speed = rows @ np.array([turn.get(b, 0.0) for b in card.buttons], np.float32)
        headings = float(state.history.flat[0]) + np.cumsum(speed)
        bright = rows @ np.array([40.0 * (b == "attack") for b in card.buttons], np.float32)
        columns = np.arange(card.width)
        bars = 60 + 80 * (((columns[None] - headings[:, None]) % card.width) < card.width / 4) + bright[:, None]
        grain = np.random.default_rng((state.seed, state.chunk)).integers(0, 4, (len(rows), card.height, card.width))
        grey = np.clip(bars[:, None, :] + grain, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, -1), float(headings[-1])


def assert_world_model_contract(model: WorldModel, *, tolerance: float = 0.0) -> None:
    """Fails, saying which promise is broken, unless `model` is a WorldModel.

    Args:
        tolerance: greatest mean absolute difference of pixels, 0..255, allowed between a batch, in any order, and
            single steps. Repeating the same call must be exact whatever it is.
    """
    card = model.card
    a, first = model.reset(card.scenes[0], seed=1)
    b, _ = model.reset(card.scenes[0], seed=2)
    again, same = model.reset(card.scenes[0], seed=1)
    shape = (card.frames_per_chunk, *card.frame_shape)
    assert first.shape == shape and first.dtype == np.uint8, (
        f"reset must give uint8 {shape}, gave {first.dtype} {first.shape}"
    )
    assert np.array_equal(first, same), "the same seed must start the same world"
    assert a.chunk == 1, "the first chunk to be generated is chunk 1"
    assert a.outcome == Outcome(), "a world that begins has come to nothing"
    rows = np.zeros((2, card.frames_per_chunk, len(card.buttons)), np.float32)
    rows[1, :, 0] = 1.0
    before = {k: v.copy() for k, v in model.to_arrays(a).items()}
    (a2, b2), frames = model.step([a, b], rows)
    assert frames.shape == (2, *shape) and frames.dtype == np.uint8, "step must give uint8 frames for every state"
    assert (a2.chunk, b2.chunk) == (2, 2), "a step moves the chunk index on by one"
    assert all(np.array_equal(before[k], v) for k, v in model.to_arrays(a).items()), "a step must not change its state"
    same_states, repeated = model.step([again, b], rows)
    assert np.array_equal(frames, repeated), "the same states and actions must give the same frames"
    _assert_outcomes([a2.outcome, b2.outcome], [s.outcome for s in same_states], card)
    _, swapped = model.step([b, a], rows[::-1].copy())
    _assert_near(swapped[::-1], frames, tolerance, "rows of a batch must not depend on each other")
    for i, state in enumerate((a, b)):
        _, single = model.step([state], rows[i : i + 1])
        _assert_near(single[0], frames[i], tolerance, "a batch must equal single steps")
        _, ahead = model.step([state], rows[i : i + 1], [model.prepare(state)])
        _assert_near(ahead[0], single[0], tolerance, "preparing must not change the result")
    arrays = model.to_arrays(a2)
    restored = model.from_arrays(arrays, replace(a2, history=None, anchor=None))
    _, on = model.step([a2], rows[:1])
    _, back = model.step([restored], rows[:1])
    assert np.array_equal(on, back), "a restored state must go on as the original does"


def _assert_outcomes(outcomes: list[Outcome], repeated: list[Outcome], card: WorldCard) -> None:
    assert outcomes == repeated, "the same states and actions must come to the same"
    assert card.outcomes or set(outcomes) == {Outcome()}, "a world comes to nothing unless its card says outcomes"
    values = [value for outcome in outcomes for value in astuple(outcome)]
    assert all(type(value) in (float, bool) for value in values), "outcomes are made of Python's own numbers"
    chances = [chance for outcome in outcomes for chance in (outcome.reward_chance, outcome.end_chance)]
    assert all(0 <= chance <= 1 for chance in chances), "chances are from 0 to 1"


def _assert_near(x: Frames, y: Frames, tolerance: float, promise: str) -> None:
    difference = float(np.abs(x.astype(np.int16) - y.astype(np.int16)).mean())
    assert difference <= tolerance, f"{promise}: mean difference {difference:.4f} of 255 is over {tolerance}"
