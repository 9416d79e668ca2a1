"""The contract test finds each planted fault, and the fake world keeps its promises."""

from dataclasses import replace

import numpy as np
import pytest

from helios_world import Action, WorldEngine
from helios_world.testing import FAKE_CARD, GAME_CARD, FakeWorldModel, assert_world_model_contract
from helios_world.world import Outcome


class SharedGenerator(FakeWorldModel):
    rng = np.random.default_rng(0)

    def step(self, states, actions, contexts=None):
        following, frames = super().step(states, actions, contexts)
        return following, frames ^ self.rng.integers(0, 2, frames.shape, np.uint8)


class ChangesItsState(FakeWorldModel):
    def step(self, states, actions, contexts=None):
        result = super().step(states, actions, contexts)
        states[0].history[:] += 1
        return result


class LeaksBetweenRows(FakeWorldModel):
    def step(self, states, actions, contexts=None):
        following, frames = super().step(states, actions, contexts)
        return following, frames + frames[:1] // 8


class DependsOnPreparation(FakeWorldModel):
    def step(self, states, actions, contexts=None):
        following, frames = super().step(states, actions, contexts)
        return following, frames if contexts is None else frames + np.uint8(1)


class IgnoresTheSeed(FakeWorldModel):
    def reset(self, scene, **options):
        state, frames = super().reset(scene, **options)
        return state, frames ^ np.random.default_rng().integers(0, 2, frames.shape, np.uint8)


class ForgetsOnRestore(FakeWorldModel):
    def from_arrays(self, arrays, head):
        return super().from_arrays({**arrays, "history": arrays["history"] * 0}, head)


class BeginsWithAReward(FakeWorldModel):
    def reset(self, scene, **options):
        state, frames = super().reset(scene, **options)
        return replace(state, outcome=Outcome(1.0)), frames


class EndsWithoutSayingThatItCan(FakeWorldModel):
    def step(self, states, actions, contexts=None):
        following, frames = super().step(states, actions, contexts)
        return [replace(state, outcome=Outcome(terminated=True)) for state in following], frames


class SaysMoreThanCertain(FakeWorldModel):
    def __init__(self):
        super().__init__(GAME_CARD)

    def _outcome(self, rows):
        return Outcome(reward_chance=1.5)


class RewardsWithAnArray(SaysMoreThanCertain):
    def _outcome(self, rows):
        return Outcome(np.float32(1.0))


@pytest.mark.parametrize("card", [FAKE_CARD, GAME_CARD])
def test_the_fake_world_fulfils_the_contract(card):
    assert_world_model_contract(FakeWorldModel(card))


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (SharedGenerator, "same states and actions must give the same frames"),
        (ChangesItsState, "must not change its state"),
        (LeaksBetweenRows, "must not depend on each other"),
        (DependsOnPreparation, "preparing must not change the result"),
        (IgnoresTheSeed, "same seed must start the same world"),
        (ForgetsOnRestore, "restored state must go on"),
        (BeginsWithAReward, "a world that begins has come to nothing"),
        (EndsWithoutSayingThatItCan, "comes to nothing unless its card says outcomes"),
        (SaysMoreThanCertain, "chances are from 0 to 1"),
        (RewardsWithAnArray, "Python's own numbers"),
    ],
)
def test_the_contract_names_each_planted_fault(broken, promise):
    with pytest.raises(AssertionError, match=promise):
        assert_world_model_contract(broken())


def shift_between(before, after):
    """Pixels by which the bars moved to the right."""
    rows = [frame[..., 0].astype(float).mean(0) - frame.mean() for frame in (before, after)]
    spectrum = np.fft.fft(rows[1]) * np.conj(np.fft.fft(rows[0]))
    shift = int(np.fft.ifft(spectrum).real.argmax())
    return shift - len(rows[0]) if shift > len(rows[0]) // 2 else shift


@pytest.mark.parametrize(("button", "pixels"), [("turn_left", 12), ("turn_right", -12), ("forward", 0)])
def test_turning_left_moves_the_fake_picture_to_the_right(button, pixels):
    session, first = WorldEngine(FakeWorldModel()).open(seed=2)
    assert shift_between(first.frames[-1], session.step(Action.of(button)).frames[-1]) == pixels
