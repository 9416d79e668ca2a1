"""The Godot client where there is no Godot: its scripts parse, and what they send is what the gateway reads.

`make clients` runs it: tests/test_clients.py.
"""

import re
from pathlib import Path

import msgpack
import pytest
import tree_sitter
import tree_sitter_gdscript

from helios_world.bridge import protocol

PROJECT = Path(__file__).resolve().parent.parent / "clients" / "godot"
SCRIPTS = sorted(PROJECT.glob("*.gd"))
# Of each kind that the client sends: an example, of which the gateway knows the fields.
SENT = [
    protocol.Hello(protocol.VERSION, "test", "", ("jpeg",)),
    protocol.Reset(1, None, 0),
    protocol.Act(1, 0.5, frozenset({"forward"}), 1, (30.0, 0.0)),
    protocol.Prompt(1, "change", "rain", 3),
    protocol.Ping(0.5),
    protocol.Close(),
]


def header(message):
    return msgpack.unpackb(protocol.encode(message)[0])


def sent_fields():
    """Kind of each message that helios_client.gd sends, to the names of its fields."""
    code = (PROJECT / "helios_client.gd").read_text(encoding="utf-8")
    maps = dict(re.findall(r"var (\w+) := (\{[^}]*\})", code))
    sendings = re.findall(r'\b_send\("(\w+)", (\{[^}]*\}|\w+)\)', code)
    return {kind: set(re.findall(r'"(\w+)":', maps.get(given, given))) for kind, given in sendings}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_parses_and_says_what_it_is(path):
    code = path.read_bytes()
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_gdscript.language()))
    assert not parser.parse(code).root_node.has_error
    assert code.startswith(b"## ") and len(code.splitlines()) < 500


def test_it_sends_the_messages_of_the_gateway_with_all_their_fields():
    expected = {header(message)["t"]: set(header(message)) - {"t"} for message in SENT}
    assert sent_fields() == {**expected, "token": {"token"}}


def test_its_version_is_the_protocols():
    code = (PROJECT / "helios_client.gd").read_text(encoding="utf-8")
    assert re.search(r"^const VERSION := (\d+)$", code, re.MULTILINE)[1] == str(protocol.VERSION)


def test_files_that_the_project_names_are_there():
    texts = [path.read_text(encoding="utf-8") for path in [*SCRIPTS, PROJECT / "world.tscn", PROJECT / "project.godot"]]
    named = set(re.findall(r'"res://([^"]+)"|preload\("([^"]+)"\)', "".join(texts)))
    assert {one or other for one, other in named} == {"world.tscn", *(path.name for path in SCRIPTS)} - {"pilot.gd"}
