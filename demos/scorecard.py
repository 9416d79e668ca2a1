"""All figures of one `eval` as a Markdown table: the world, the real game as its floor, and two that know nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from helios_world.demos.tables import ORIGIN, flatten, origin, readable

# Columns by the words in a key that say whose figure it is; what is left of the key is the figure's name.
COLUMNS = {
    "world": None,
    "real game": re.compile(r"(?<![a-z])real_|_autoencoder"),
    "last frame repeated": re.compile(r"copy_last_|_copy_last"),
    "data mean": re.compile(r"data_mean_|_mean_frame|(?<=brier)_base_rate"),
}
SETTING = ("scene", "steps", "dtype", "device", "trajectories", "start_places", "rollouts")


def scorecard(values: Mapping[str, Any]) -> str:
    """What `report` gave, as a page of Markdown."""
    rows: dict[str, dict[str, str]] = {}
    for key, value in flatten({k: v for k, v in values.items() if k not in (*ORIGIN, *SETTING)}).items():
        name, column = place(key)
        rows.setdefault(name, {})[column] = readable(value)
    _spread(rows)
    setting = ", ".join(f"{name} {values[name]}" for name in SETTING if name in values)
    head = ["| figure | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    body = [f"| `{name}` | {' | '.join(row.get(column, '') for column in COLUMNS)} |" for name, row in rows.items()]
    return "\n".join([*head, *body, "", f"- {setting}", f"- {origin(values)}", ""])


def place(key: str) -> tuple[str, str]:
    """Name of a figure and the column of a flat key."""
    for column, pattern in COLUMNS.items():
        if pattern is not None and pattern.search(key):
            return pattern.sub("", key, count=1), column
    return key, "world"


def _spread(rows: dict[str, dict[str, str]]) -> None:
    """One value for all times or chunks, which stands in a row of its own, goes into the rows that it holds for."""
    for name in [name for name, row in rows.items() if "world" not in row]:
        under = [row for other, row in rows.items() if other.startswith(f"{name}.")]
        for row in under:
            for column, value in rows[name].items():
                row.setdefault(column, value)
        if under:
            del rows[name]
