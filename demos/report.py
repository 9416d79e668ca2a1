"""The one JSON object that `bench` and `eval` print: figures, and where they come from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("helios-world", "torch", "numpy", "pyzmq", "msgpack", "simplejpeg", "pygame-ce", "av")


def report(command: str, seed: int, **figures: Any) -> dict[str, Any]:
    """`figures` (unit as suffix of each key), with machine, versions, commit, command and seed."""
    origin = {"machine": machine(), "versions": versions(), "commit": commit()}
    return {**figures, **origin, "command": command, "seed": seed}


def print_report(values: dict[str, Any], as_json: bool) -> None:
    """On stdout: exactly one JSON object, or a table for people."""
    if as_json:
        print(json.dumps(values), flush=True)
        return
    width = max(map(len, values))
    for name, value in values.items():
        print(f"{name:<{width}}  {_readable(value)}")


def machine() -> dict[str, Any]:
    """The processor, how much of it may be used, and the system."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu_name(), "cpus": usable, "system": f"{platform.system()} {platform.machine()}"}


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Of the checkout that runs, with `-dirty` when tracked files differ; None outside one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"commit unknown: {error}", file=sys.stderr)
        return None
    return head + ("-dirty" if changed else "")


def _git(root: Path, *words: str) -> str:
    ran = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, float):
        return f"{value:.2f}"
    return str(value)
