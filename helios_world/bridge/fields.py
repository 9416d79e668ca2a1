"""What values in a message header may be: each check returns the value as Python has it, or raises ProtocolError."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from helios_world.errors import ProtocolError

Check = Callable[[str, Any], Any]  # (name for the error, value) -> value
MAX_COUNT = (1 << 63) - 1


def count(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ProtocolError(f"{name} must be an integer from 0 to 2^63-1")
    return value


def number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e15:
        raise ProtocolError(f"{name} must be a finite number")
    return float(value)


def seconds(name: str, value: Any) -> float:
    if number(name, value) < 0:
        raise ProtocolError(f"{name} must not be negative")
    return float(value)


def flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise ProtocolError(f"{name} must be true or false")
    return value


def text(longest: int) -> Check:
    """Text of at most `longest` characters."""

    def check(name: str, value: Any) -> str:
        if type(value) is not str or len(value) > longest:
            raise ProtocolError(f"{name} must be text of at most {longest} characters")
        return value

    return check


def one_of(names: tuple[str, ...]) -> Check:
    """One of `names`."""

    def check(name: str, value: Any) -> str:
        if value not in names:
            raise ProtocolError(f"{name} must be one of {', '.join(names)}")
        return value

    return check


def or_none(check: Check) -> Check:
    """None, or what `check` takes."""
    return lambda name, value: None if value is None else check(name, value)


def list_of(check: Check, longest: int) -> Check:
    """A list of at most `longest` values that `check` takes, as a tuple."""

    def check_all(name: str, value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > longest:
            raise ProtocolError(f"{name} must be a list of at most {longest}")
        return tuple(check(name, item) for item in value)

    return check_all


sizes = list_of(count, 1024)


def buttons(name: str, value: Any) -> frozenset[str]:
    return frozenset(list_of(text(64), 64)(name, value))
