"""`helios-world doctor`: is everything here that playing needs, and what will it run on?"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from helios_world.demos.report import machine, versions
from helios_world.errors import UserError
from helios_world.home import VARIABLE, home_folder
from helios_world.pack import list_packs, read_pack

REQUIRED = ("numpy", "gymnasium", "pyzmq", "msgpack", "simplejpeg")
OPTIONAL = {"engine": ("torch", "safetensors"), "play": ("pygame-ce", "av", "pillow"), "doom": ("vizdoom",)}
FAST_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")

OK, NOTE, BROKEN = "ok", "note", "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: `state` is "ok", "note" (works without it) or "broken"."""

    subject: str
    state: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Reports every finding; 1 if something that playing needs is broken."""
    findings = [finding for check in CHECKS for finding in check()]
    broken = [finding for finding in findings if finding.state == BROKEN]
    if args.json:
        print(json.dumps({"ok": not broken, "findings": list(map(asdict, findings)), **origin()}))
    else:
        for finding in findings:
            print(f"{finding.state:<7}{finding.subject:<12}{finding.text}")
        print(f"{len(broken)} broken" if broken else "all that is needed works")
    return 1 if broken else 0


def origin() -> dict[str, object]:
    return {"machine": machine(), "versions": versions()}


def check_python() -> Iterator[Finding]:
    state = OK if sys.version_info >= (3, 11) else BROKEN
    yield Finding("python", state, f"{platform.python_version()} (3.11 or newer is needed)")


def check_packages() -> Iterator[Finding]:
    for package in REQUIRED:
        found = version_of(package)
        yield Finding(package, OK if found else BROKEN, found or "not installed: install helios-world again")
    for extra, packages in OPTIONAL.items():
        for package in packages:
            found = version_of(package)
            advice = f"not installed: pip install 'helios-world[{extra}]'"
            yield Finding(package, OK if found else NOTE, found or advice)
    if version_of("pygame") and version_of("pygame-ce"):
        advice = "pygame overwrites files of pygame-ce: pip uninstall pygame pygame-ce, then install pygame-ce"
        yield Finding("pygame", BROKEN, advice)


def check_zmq() -> Iterator[Finding]:
    import zmq

    from helios_world.bridge.door import OLDEST_LIBZMQ

    state = OK if zmq.zmq_version_info() >= OLDEST_LIBZMQ else BROKEN
    yield Finding("libzmq", state, f"{zmq.zmq_version()} ({'.'.join(map(str, OLDEST_LIBZMQ))} or newer is needed)")
    curve = zmq.has("curve")
    yield Finding("curve", OK if curve else NOTE, "encryption is there" if curve else "no encryption in this libzmq")


def check_processor() -> Iterator[Finding]:
    found = machine()
    yield Finding("cpu", OK, f"{found['cpu']}, {found['cpus']} usable cores")
    flags = cpu_flags(Path("/proc/cpuinfo"))
    if flags is None:
        yield Finding("bf16", NOTE, "this system does not say whether the processor has bf16 units")
    else:
        fast = [flag for flag in FAST_BF16_FLAGS if flag in flags]
        yield Finding("bf16", OK if fast else NOTE, ", ".join(fast) or "no bf16 units: float32 will be faster")


def check_gpu() -> Iterator[Finding]:
    if version_of("torch") is None:
        return
    import torch

    if not torch.cuda.is_available():
        yield Finding("gpu", NOTE, "none that torch can use; the shipped world runs on the processor")
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        yield Finding("gpu", OK, f"{found.name}, {found.total_memory / 2**30:.0f} GiB")


def check_display(environ: Mapping[str, str] = os.environ, system: str = sys.platform) -> Iterator[Finding]:
    if not system.startswith("linux"):
        yield Finding("display", OK, f"the desktop of {system}")
        return
    found = environ.get("WAYLAND_DISPLAY") or environ.get("DISPLAY")
    yield Finding("display", OK if found else NOTE, found or "none: `helios-world play` will write a video instead")


def check_packs() -> Iterator[Finding]:
    names = list_packs()
    if not names:
        yield Finding("worlds", BROKEN, "no world pack is installed: install helios-world again")
    for name in names:
        if version_of("torch") is None:
            yield Finding("worlds", NOTE, f"{name} is there; without torch it can only be played through --connect")
            continue
        if read_pack(name).networks is None:
            yield Finding("worlds", NOTE, f"{name} is there; it is played with a checkpoint: --weights")
            continue
        from helios_world.generator import load_generator

        try:
            load_generator(name, dtype="float32")
        except UserError as error:
            yield Finding("worlds", BROKEN, f"{name}: {error}")
        else:
            yield Finding("worlds", OK, f"{name} loads")


def check_home() -> Iterator[Finding]:
    folder = home_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK)
    text = f"{folder}" if writable else f"{folder} cannot be written: set {VARIABLE} to a folder that can"
    yield Finding("home", OK if writable else BROKEN, text)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_packages,
    check_zmq,
    check_processor,
    check_gpu,
    check_display,
    check_packs,
    check_home,
)


def version_of(package: str) -> str | None:
    """Of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_flags(path: Path) -> set[str] | None:
    """What the processor can do, as Linux lists it; None on other systems."""
    if not path.is_file():
        return None
    lines = path.read_text(errors="replace").splitlines()
    return {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
