"""The world card travels as JSON and msgpack, and checks scenes."""

import json
from dataclasses import replace

import msgpack
import pytest

from helios_world.card import WorldCard
from helios_world.errors import PackError, UserError
from helios_world.testing import FAKE_CARD, GAME_CARD


def test_a_card_survives_json_and_msgpack():
    values = FAKE_CARD.to_dict()
    assert WorldCard.from_dict(json.loads(json.dumps(values))) == FAKE_CARD
    assert WorldCard.from_dict(msgpack.unpackb(msgpack.packb(values))) == FAKE_CARD


def test_a_card_without_a_mouse_has_no_such_key():
    plain = replace(FAKE_CARD, mouse=None)
    assert "mouse" not in plain.to_dict() and WorldCard.from_dict(plain.to_dict()) == plain


def test_a_card_with_outcomes_says_so_and_one_without_has_no_such_key():
    assert "outcomes" not in FAKE_CARD.to_dict() and not FAKE_CARD.outcomes
    values = GAME_CARD.to_dict()
    assert values["outcomes"] is True and WorldCard.from_dict(json.loads(json.dumps(values))) == GAME_CARD


def test_keys_of_later_versions_are_ignored_and_missing_ones_named():
    values = FAKE_CARD.to_dict()
    assert WorldCard.from_dict({**values, "mood": "calm"}) == FAKE_CARD
    with pytest.raises(PackError, match="world card lacks fps, buttons"):
        WorldCard.from_dict({name: value for name, value in values.items() if name not in ("fps", "buttons")})


def test_the_first_scene_is_the_default():
    assert FAKE_CARD.check_scene(None) == "maze"
    assert FAKE_CARD.check_scene("hall") == "hall"
    with pytest.raises(UserError, match="unknown scene 'moon': choose from maze, hall"):
        FAKE_CARD.check_scene("moon")


def test_a_chunk_lasts_its_frames():
    assert FAKE_CARD.chunk_seconds == pytest.approx(4 / 17.5)
    assert FAKE_CARD.frame_shape == (64, 80, 3)
