"""Which key holds which button, as data. Knows key names, not keyboards."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence

from helios_world.errors import UserError, check_name

# As pygame.key.name spells them.
KEY_NAMES: tuple[str, ...] = (
    *string.ascii_lowercase,
    *string.digits,
    *("up", "down", "left", "right", "space", "return", "tab", "backspace", "insert", "delete", "home", "end"),
    *("page up", "page down", "left shift", "right shift", "left ctrl", "right ctrl", "left alt", "right alt"),
    *(f"f{number}" for number in range(1, 13)),
    *("`", "-", "=", "[", "]", "\\", ";", "'", ",", ".", "/"),
    *(f"[{number}]" for number in range(10)),
)


def check_bindings(bindings: Mapping[str, str], buttons: Sequence[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """`bindings` (key name to button) as a dict of its own.

    Args:
        buttons: what can be held.
        reserved: keys that mean something else already.
    Raises:
        UserError: an unknown key or button, or a reserved key.
    """
    taken = frozenset(reserved)
    for key, button in bindings.items():
        check_name("key", key, KEY_NAMES)
        check_name("button", button, buttons)
        if key in taken:
            raise UserError(f"key {key!r} is bound to {button!r}: {', '.join(sorted(taken))} are taken by the window")
    return dict(bindings)


def keys_by_button(bindings: Mapping[str, str]) -> dict[str, list[str]]:
    """Button to the keys that hold it, in the order of `bindings`."""
    keys: dict[str, list[str]] = {}
    for key, button in bindings.items():
        keys.setdefault(button, []).append(key)
    return keys
