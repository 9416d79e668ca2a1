"""What values in a message header may be: each check returns the value as Python has it, or raises ProtocolError.

`check.schema` says the same in the words of JSON Schema, for clients in other languages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from helios_world.errors import ProtocolError

Check = Callable[[str, Any], Any]  # (name for the error, value) -> value
MAX_COUNT = (1 << 63) - 1
MAX_NUMBER = 1e15


def takes(**schema: Any) -> Callable[[Check], Check]:
    """Marks a check with what it takes."""

    def mark(check: Check) -> Check:
        check.schema = schema
        return check

    return mark


@takes(type="integer", minimum=0, maximum=MAX_COUNT)
def count(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ProtocolError(f"{name} must be an integer from 0 to 2^63-1")
    return value


@takes(type="number", minimum=-MAX_NUMBER, maximum=MAX_NUMBER)
def number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > MAX_NUMBER:
        raise ProtocolError(f"{name} must be a finite number")
    return float(value)


@takes(type="number", minimum=0, maximum=MAX_NUMBER)
def seconds(name: str, value: Any) -> float:
    if number(name, value) < 0:
        raise ProtocolError(f"{name} must not be negative")
    return float(value)


@takes(type="number", minimum=0, maximum=1)
def chance(name: str, value: Any) -> float:
    if not 0 <= number(name, value) <= 1:
        raise ProtocolError(f"{name} must be from 0 to 1")
    return float(value)


@takes(type="boolean")
def flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise ProtocolError(f"{name} must be true or false")
    return value


def text(longest: int) -> Check:
    """Text of at most `longest` characters."""

    @takes(type="string", maxLength=longest)
    def check(name: str, value: Any) -> str:
        if type(value) is not str or len(value) > longest:
            raise ProtocolError(f"{name} must be text of at most {longest} characters")
        return value

    return check


def one_of(names: tuple[str, ...]) -> Check:
    """One of `names`."""

    @takes(type="string", enum=list(names))
    def check(name: str, value: Any) -> str:
        if value not in names:
            raise ProtocolError(f"{name} must be one of {', '.join(names)}")
        return value

    return check


def or_none(check: Check) -> Check:
    """None, or what `check` takes."""

    @takes(**schema_of(check), optional=True)
    def check_some(name: str, value: Any) -> Any:
        return None if value is None else check(name, value)

    return check_some


def list_of(check: Check, longest: int) -> Check:
    """A list of at most `longest` values that `check` takes, as a tuple."""

    @takes(type="array", items=schema_of(check), maxItems=longest)
    def check_all(name: str, value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > longest:
            raise ProtocolError(f"{name} must be a list of at most {longest}")
        return tuple(check(name, item) for item in value)

    return check_all


def map_of(checks: Mapping[str, Check]) -> Check:
    """A map with at least these keys, as a dict of what their checks give; others are ignored."""

    @takes(type="object", properties={key: schema_of(check) for key, check in checks.items()})
    def check_map(name: str, value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise ProtocolError(f"{name} must be a map")
        for key in checks:
            if key not in value:
                raise ProtocolError(f"{name} lacks {key}")
        return {key: check(f"{name}.{key}", value[key]) for key, check in checks.items()}

    return check_map


def schema_of(check: Check) -> dict[str, Any]:
    """What `check` takes; empty where it does not say."""
    return getattr(check, "schema", {})


sizes = list_of(count, 1024)


@takes(type="array", items={"type": "string", "maxLength": 64}, maxItems=64, uniqueItems=True)
def buttons(name: str, value: Any) -> frozenset[str]:
    return frozenset(list_of(text(64), 64)(name, value))


@takes(type="array", items=schema_of(number), minItems=2, maxItems=2)
def pair(name: str, value: Any) -> tuple[float, float]:
    if type(value) is not list or len(value) != 2:
        raise ProtocolError(f"{name} must be a list of two numbers")
    return number(name, value[0]), number(name, value[1])
