"""Buttons, the latch that keeps taps, and the rows that a model reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios_world.action import NOOP, Action, ActionLatch, check_buttons, encode_actions
from helios_world.errors import UserError

BUTTONS = ("forward", "turn_left", "attack")
held_sets = st.frozensets(st.sampled_from(BUTTONS))


def test_a_tap_between_two_chunks_counts_once():
    latch = ActionLatch()
    latch.put(Action.of("attack"))
    latch.put(NOOP)
    assert latch.take() == Action.of("attack")
    assert latch.take() == NOOP


@given(st.lists(held_sets, min_size=1))
def test_take_gives_all_that_was_held_and_then_only_what_still_is(history):
    latch = ActionLatch()
    for held in history:
        latch.put(Action(held))
    assert latch.take().buttons == frozenset().union(*history)
    assert latch.take().buttons == history[-1]


@given(st.lists(held_sets, max_size=4), st.integers(1, 5))
def test_rows_are_one_where_a_button_is_held_for_every_frame(history, frames):
    rows = encode_actions([Action(held) for held in history], BUTTONS, frames)
    assert rows.shape == (len(history), frames, len(BUTTONS)) and rows.dtype == np.float32
    for row, held in zip(rows, history, strict=True):
        assert np.array_equal(row, np.tile([float(button in held) for button in BUTTONS], (frames, 1)))


def test_an_unknown_button_is_named_with_those_that_exist():
    for refuse in (lambda: encode_actions([Action.of("jump")], BUTTONS, 4), lambda: check_buttons(["jump"], BUTTONS)):
        with pytest.raises(UserError, match="unknown button 'jump': choose from forward, turn_left, attack"):
            refuse()
