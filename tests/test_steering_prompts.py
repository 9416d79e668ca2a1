"""Held buttons as words: which texts with which weights."""

import json

import numpy as np
import pytest

from helios_world.action import Action, encode_actions
from helios_world.errors import UserError
from helios_world.prompts import PromptTrack
from helios_world.steering import Phrase, PromptSteering

BUTTONS = ("forward", "back", "turn_left", "turn_right", "attack")
STEERING = PromptSteering(
    BUTTONS,
    {
        "forward": Phrase("The camera moves forward"),
        "back": Phrase("The camera moves backward"),
        "turn_left": Phrase("The camera pans to the left"),
        "turn_right": Phrase("The camera pans to the right"),
    },
    (("forward", "back"), ("turn_left", "turn_right")),
)
FOREST = (("A forest", 1.0),)


def held(*names, frames=4):
    return encode_actions([Action.of(*names)], BUTTONS, frames)[0]


def test_no_buttons_leave_exactly_the_prompt():
    assert STEERING.steer(FOREST, held()) == FOREST
    assert STEERING.steer((("A forest. ", 0.25), ("A town", 0.75)), held()) == (("A forest. ", 0.25), ("A town", 0.75))


def test_a_held_button_is_said_after_the_prompt():
    assert STEERING.steer(FOREST, held("forward")) == (("A forest. The camera moves forward.", 1.0),)
    both = STEERING.steer((("Rain!", 1.0),), held("turn_left", "forward"))
    assert both == (("Rain! The camera moves forward. The camera pans to the left.", 1.0),)
    assert STEERING.steer((("", 1.0),), held("forward")) == (("The camera moves forward.", 1.0),)


def test_opposite_buttons_cancel():
    assert STEERING.steer(FOREST, held("forward", "back")) == FOREST
    assert STEERING.steer(FOREST, held("forward", "back", "turn_left")) == STEERING.steer(FOREST, held("turn_left"))


def test_a_button_without_a_phrase_says_nothing():
    assert STEERING.steer(FOREST, held("attack")) == FOREST


def test_weights_are_shares_of_the_frames():
    rows = np.concatenate([held("forward", frames=3), held("forward", "turn_left", frames=1), held(frames=4)])
    blended = dict(STEERING.steer(FOREST, rows))
    forward, left = "A forest. The camera moves forward.", " The camera pans to the left."
    assert blended == {"A forest": 0.5, forward: 0.375, forward + left: 0.125}
    assert STEERING.steer(FOREST, rows[::-1]) == STEERING.steer(FOREST, rows), "their order within a chunk is lost"


def test_strength_is_the_weight_of_a_phrase():
    phrases = {"forward": Phrase("Onward", 0.75), "turn_left": Phrase("Left", 0.25), "back": Phrase("Back", 0.0)}
    steering = PromptSteering(BUTTONS, phrases)
    blended = dict(steering.steer(FOREST, held("forward", "turn_left")))
    assert blended == {"A forest": 0.25, "A forest. Onward.": 0.5, "A forest. Onward. Left.": 0.25}
    for word, strength in (("Onward", 0.75), ("Left", 0.25)):
        assert sum(weight for text, weight in blended.items() if word in text) == strength
    assert steering.steer(FOREST, held("back")) == FOREST


def test_it_steers_every_prompt_of_a_running_change():
    prompts = PromptTrack.start("A forest").change("A town", over=4).blend()
    rows = np.concatenate([held("back", frames=2), held(frames=2)])
    assert dict(STEERING.steer(prompts, rows)) == {
        "A forest": 0.375,
        "A forest. The camera moves backward.": 0.375,
        "A town": 0.125,
        "A town. The camera moves backward.": 0.125,
    }


def test_the_texts_that_can_come_up_are_known_ahead():
    texts = STEERING.texts("A forest")
    assert texts[0] == "A forest" and len(texts) == len(set(texts)) == 1 + 4 + 4
    for names in [(), ("forward",), ("back", "turn_right"), ("forward", "back")]:
        assert {text for text, _ in STEERING.steer(FOREST, held(*names))} <= set(texts)
    assert len(STEERING.texts("A forest", together=0)) == 1


def test_the_table_is_data():
    table = {
        "phrases": {"forward": "Onward", "back": {"text": "Back", "strength": 0.5}},
        "opposites": [["forward", "back"]],
    }
    steering = PromptSteering.from_dict(json.loads(json.dumps(table)), BUTTONS)
    assert steering.to_dict() == table
    assert steering.phrases["back"] == Phrase("Back", 0.5)
    assert PromptSteering.from_dict(STEERING.to_dict(), BUTTONS) == STEERING


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"phrases": {"fly": "The camera flies"}}, "unknown button 'fly': choose from forward, back"),
        ({"phrases": {}, "opposites": [["forward", "jump"]]}, "unknown button 'jump'"),
        ({"phrases": {"back": {"text": "Back", "strength": 2}}}, "strength of back is 2: must be 0 to 1"),
        ({"phrases": {"back": {"text": "Back", "strength": "much"}}}, "strength of back is 'much'"),
        ({"phrases": {"back": "  "}}, "phrase of back is '  ': must be text"),
        ({"phrases": {"back": {"text": "Back", "loudness": 1}}}, "steering is damaged"),
        ({"phrases": {"back": 3}}, "steering is damaged"),
        ({"opposites": []}, "steering is damaged"),
        ({"phrases": {}, "opposites": [["forward"]]}, "steering is damaged"),
        ([], "steering is damaged"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(table, text):
    with pytest.raises(UserError, match=text) as caught:
        PromptSteering.from_dict(table, BUTTONS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rows", [np.zeros((4, 3)), np.zeros((0, 5)), np.zeros(5)])
def test_held_buttons_of_another_shape_are_refused(rows):
    with pytest.raises(UserError, match=r"must be \(1 or more frames, 5 buttons\)"):
        STEERING.steer(FOREST, rows)
