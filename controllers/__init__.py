"""Whatever picks the next action: no windows, no sockets."""

if __name__ != "helios_world.controllers":
    raise ImportError("import helios_world.controllers, not controllers")

from helios_world.controllers.base import Controller
from helios_world.controllers.bindings import KEY_NAMES, check_bindings, keys_by_button
from helios_world.controllers.explorer import ExplorerController
from helios_world.controllers.keyboard import Keyboard
from helios_world.controllers.random import RandomController
from helios_world.controllers.replay import Recorder, Recording, Replay
from helios_world.controllers.script import ScriptController, parse_script, read_script

__all__ = [
    "KEY_NAMES",
    "Controller",
    "ExplorerController",
    "Keyboard",
    "RandomController",
    "Recorder",
    "Recording",
    "Replay",
    "ScriptController",
    "check_bindings",
    "keys_by_button",
    "parse_script",
    "read_script",
]
