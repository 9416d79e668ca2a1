"""The folder for what a player keeps: saves, screenshots, caches."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "HELIOS_WORLD_HOME"


def home_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """HELIOS_WORLD_HOME if set, else the platform's folder for user data. Not made by this."""
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE]).expanduser().absolute()
    if platform == "win32":
        base = environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "helios-world"
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "helios-world"
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "helios-world"
