"""What a chunk came to, in a message header."""

from __future__ import annotations

from typing import Any

from helios_world.bridge import fields as check
from helios_world.world import Outcome

OUTCOME: dict[str, check.Check] = {
    "reward": check.number,
    "terminated": check.flag,
    "reward_chance": check.chance,
    "end_chance": check.chance,
}
_PARTS = check.map_of(OUTCOME)


@check.takes(**check.schema_of(_PARTS))
def read_outcome(name: str, value: Any) -> Outcome:
    """The outcome in a map. ProtocolError for a key that is missing or out of range; unknown ones are ignored."""
    return Outcome(**_PARTS(name, value))
