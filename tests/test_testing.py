"""The contract test finds each planted fault, and the fake world keeps its promises."""

import numpy as np
import pytest

from helios_world import Action, WorldEngine
from helios_world.testing import FakeWorldModel, assert_world_model_contract


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


def test_the_fake_world_fulfils_the_contract():
    assert_world_model_contract(FakeWorldModel())


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (SharedGenerator, "same states and actions must give the same frames"),
        (ChangesItsState, "must not change its state"),
        (LeaksBetweenRows, "must not depend on each other"),
        (DependsOnPreparation, "preparing must not change the result"),
        (IgnoresTheSeed, "same seed must start the same world"),
        (ForgetsOnRestore, "restored state must go on"),
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
