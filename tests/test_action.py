"""Buttons, the latch that keeps taps, and the rows that a model reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios_world.action import NOOP, Action, ActionLatch, check_buttons, encode_actions
from helios_world.errors import PackError, UserError
from helios_world.mouse import Mouse

BUTTONS = ("forward", "turn_left", "attack")
MOUSE = Mouse(10.0, left="turn_left", down="attack")
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


def moved(latch, *positions):
    for position in positions:
        latch.point(position)
    return latch.take().mouse


def test_the_mouse_adds_up_and_its_first_position_is_where_it_begins():
    latch = ActionLatch(MOUSE, frames=4)
    assert moved(latch) == (0, 0)
    assert moved(latch, (700.0, -3.0)) == (0, 0)
    assert moved(latch, (690.0, -3.0), (681.0, 8.0)) == (-10, 10)  # the odd 9 counts wait
    assert moved(latch, (680.0, 8.0), (680.0, 8.0)) == (-10, 0)  # said twice, moved once
    assert moved(latch) == (0, 0)


def test_a_swipe_turns_for_two_chunks_at_most():
    latch = ActionLatch(MOUSE, frames=4)
    latch.point((0.0, 0.0))
    assert moved(latch, (-100_000.0, 0.0)) == (-40, 0)
    assert moved(latch) == (-40, 0)
    assert moved(latch) == (0, 0)
    assert moved(latch, (-100_000.0 + 10, 0.0)) == (10, 0)


def test_a_world_without_a_mouse_does_not_look():
    latch = ActionLatch()
    assert moved(latch, (0.0, 0.0), (50.0, 50.0)) == (0, 0)


@given(st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), min_size=1, max_size=20))
def test_nothing_slow_is_lost(movements):
    """As long as no chunk is overrun, all that was moved is taken, but for less than a frame's worth."""
    latch = ActionLatch(MOUSE, frames=6)
    latch.point((0.0, 0.0))
    at, total = np.zeros(2), np.zeros(2)
    for movement in movements:
        at += np.clip(movement, -50, 50)
        total += moved(latch, tuple(at))
    assert (abs(at - total) < MOUSE.counts).all()


@pytest.mark.parametrize(
    "counts, frames",
    [(0, []), (9, []), (10, [0]), (20, [0, 2]), (30, [0, 1, 2]), (40, [0, 1, 2, 3]), (1e9, [0, 1, 2, 3])],
)
def test_a_movement_holds_its_button_for_frames_spread_evenly(counts, frames):
    rows = encode_actions([Action(frozenset({"forward"}), (-counts, 0.0))], BUTTONS, 4, MOUSE)[0]
    assert rows[:, 0].tolist() == [1.0] * 4
    assert np.flatnonzero(rows[:, 1]).tolist() == frames
    right = encode_actions([Action(mouse=(counts, -counts))], BUTTONS, 4, MOUSE)
    assert not right.any(), "there is no button for that way"
    assert not encode_actions([Action(mouse=(-counts, 0.0))], BUTTONS, 4).any(), "and none without a mouse"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"counts": 0},
        {"counts": 1e-4},
        {"counts": 1e7},
        {"counts": float("nan")},
        {"counts": "3"},
        {"counts": 3, "wheel": "attack"},
    ],
)
def test_a_damaged_mouse_is_refused(values):
    with pytest.raises(PackError, match="mouse is damaged"):
        Mouse.from_dict(values, BUTTONS)


def test_a_mouse_survives_its_dict_and_knows_its_buttons():
    assert Mouse.from_dict(MOUSE.to_dict(), BUTTONS) == MOUSE
    with pytest.raises(UserError, match="unknown button 'jump'"):
        Mouse.from_dict({"counts": 3, "up": "jump"}, BUTTONS)
