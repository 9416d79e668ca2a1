"""The golden vectors that clients in other languages read: current, complete, and what our own decoder says too."""

import json

import pytest

from helios_world.bridge import protocol
from helios_world.errors import ProtocolError
from tests import vectors

FOUND = vectors.vectors()


def parts(row):
    return [bytes.fromhex(row["header_hex"]), bytes.fromhex(row["payload_hex"])]


@pytest.mark.parametrize("name", ["vectors.json", "schema.json"])
def test_the_files_are_current(name):
    text = (vectors.FOLDER / name).read_text(encoding="utf-8")
    assert text == vectors.files()[name], "run: python -m tests.vectors"
    assert json.loads(text)["version"] == protocol.VERSION


def test_every_message_type_has_two_examples_or_all_it_can_be():
    by_type = [row["message"]["t"] for row in FOUND["messages"]]
    assert set(by_type) == set(protocol._KINDS)
    assert [t for t in protocol._KINDS if by_type.count(t) < 2] == ["close"]  # has no fields


@pytest.mark.parametrize("row", FOUND["messages"], ids=lambda row: row["name"])
def test_decode_gives_the_message_and_encode_the_bytes(row):
    message = vectors.MESSAGES[row["name"]]
    assert protocol.decode(parts(row)) == message
    assert protocol.encode(message) == parts(row)


@pytest.mark.parametrize("row", FOUND["accepted"], ids=lambda row: row["name"])
def test_what_encode_does_not_make_may_still_be_a_message(row):
    message = protocol.decode(parts(row))
    assert vectors.message_json(message) == row["message"]
    assert protocol.encode(message) != parts(row)


@pytest.mark.parametrize("row", FOUND["refused"], ids=lambda row: row["why"])
def test_what_must_be_refused_is(row):
    with pytest.raises(ProtocolError):
        protocol.decode(parts(row))


def test_the_schema_says_something_about_every_field():
    for name, kind in vectors.schema()["messages"].items():
        cls = protocol._KINDS[name][0]
        assert [*kind["header"], *["payload"] * kind["payload"]] == list(cls.__dataclass_fields__)
        assert all(kind["header"].values())
