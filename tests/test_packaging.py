"""What an installation brings: versions are pinned, extras are light, and a built wheel holds the package alone."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = {"torch", "pygame-ce", "vizdoom", "av", "pillow", "safetensors"}


def package_name(requirement):
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower()


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_direct_dependency_is_pinned_within_its_range():
    pins = constraints()
    wanted = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    for requirement in wanted:
        if package_name(requirement) != "helios-world":
            pinned = pins[package_name(requirement)].split(".")
            low = re.search(r">=([\d.]+)", requirement)[1].split(".")
            assert [int(part) for part in pinned[: len(low)]] >= [int(part) for part in low], requirement
    assert pins["torch"] == "2.13.0"


def test_the_base_install_is_light_and_the_extras_exist():
    assert not HEAVY & {package_name(requirement) for requirement in PROJECT["dependencies"]}
    assert set(PROJECT["optional-dependencies"]) >= {"engine", "play", "doom", "test", "dev"}


SKIPS = """
import pytest

@pytest.mark.display
@pytest.mark.skipif(True, reason="no display")
def test_marked():
    pass

@pytest.mark.display
def test_inside():
    pytest.skip("no display")

def test_elsewhere():
    pytest.skip("no reason to fail")
"""


@pytest.mark.parametrize(("flag", "outcome"), [("0", "3 skipped"), ("1", "1 failed, 1 skipped, 1 error")])
def test_on_the_build_machine_a_skipped_display_test_fails(tmp_path, flag, outcome):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_skips.py").write_text(SKIPS)
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore", str(tmp_path)]
    environ = {**os.environ, "HELIOS_WORLD_CI": flag}
    ran = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert outcome in ran.stdout.splitlines()[-1], ran.stdout


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_nothing_else(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    copied = tmp_path / "checkout"
    for name in ("helios_world", "envs", "controllers", "demos"):
        shutil.copytree(ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copied / name)
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    ran = subprocess.run([sys.executable, "-c", build], cwd=copied, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    with zipfile.ZipFile(copied / ran.stdout.splitlines()[-1]) as wheel:
        names = wheel.namelist()
        entry_points = next(wheel.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"helios_world"}
    modules = [p.relative_to(copied).as_posix() for p in copied.rglob("*.py") if "build" not in p.parts]
    inside = {name if name.startswith("helios_world/") else f"helios_world/{name}" for name in modules}
    assert inside <= set(names) and "helios_world/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "helios-world = helios_world.demos.cli:main" in entry_points


def test_make_names_what_it_needs_when_python_is_too_old(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    words = ["make", "--no-print-directory", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}", f"{tmp_path / 'venv'}/.made"]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "Python 3.11 or newer is needed" in ran.stdout
