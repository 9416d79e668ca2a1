"""What a data set says of itself, read without its frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from helios_world.errors import UserError


def read_facts(folder: Path) -> dict:
    """What the data.json of a data set says. UserError if there is none, or a damaged one."""
    try:
        facts = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        return {**facts, "scene": str(facts["scene"]), "workers": int(facts["workers"])}
    except FileNotFoundError:
        raise UserError(f"{folder} holds no data set: make one with helios-world collect") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise not_a_data_set(folder, error) from None


def not_a_data_set(folder: Path, error: Exception) -> UserError:
    """What to raise of a folder that cannot be read as one."""
    return UserError(f"{folder} is not a data set of helios-world collect ({type(error).__name__}: {error})")


def scene_dim(scenes: Sequence[str]) -> int:
    """Numbers that tell these scenes apart; see `config.TransformerConfig`."""
    return len(scenes) if len(scenes) > 1 else 0
