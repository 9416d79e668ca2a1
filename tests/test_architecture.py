"""Rules for the whole tree: imports point downwards, importing is light, files and functions are short."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"helios_world": "helios_world", "envs": "helios_world.envs"}
FOLDERS |= {"controllers": "helios_world.controllers", "demos": "helios_world.demos"}

# A module imports from layers above its own line only, or from its own package.
LAYERS = [
    {"errors", "home"},
    {"mouse"},
    {"action", "card", "clip", "config", "drift", "prompts"},
    {"steering", "engine_options"},
    {"world", "model", "pack"},
    {"sampling", "snapshot", "testing"},
    {"engine", "checkpoint", "embeddings", "device", "footprint", "latents", "nvjpeg"},
    {"diffusers_layout"},
    {"bridge", "generator", "released"},
    {"open", "gateway"},
    {"envs", "controllers"},
    {"training"},
    {"demos"},
]
# Where the modules that are heavy, or that only an extra brings, may be imported.
HOMES = {
    "pygame": ("demos/window.py", "demos/hud.py", "demos/mouse.py"),
    "gymnasium": ("envs/",),
    "zmq": ("helios_world/bridge/", "helios_world/gateway/connection.py", "demos/doctor.py", "demos/bench_"),
    "aiohttp": ("helios_world/gateway/", "demos/bench_rivals.py"),
    "asyncio": ("helios_world/gateway/", "demos/gateway.py", "demos/bench_rivals.py"),
    "vizdoom": ("helios_world/training/game.py",),
    "av": ("helios_world/bridge/h264.py", "demos/recording.py", "demos/material.py"),
    "torch": (
        *("helios_world/model/", "helios_world/sampling/", "helios_world/checkpoint.py", "helios_world/generator.py"),
        *("helios_world/diffusers_layout.py", "helios_world/embeddings.py", "helios_world/training/"),
        *("helios_world/device.py", "helios_world/footprint.py", "helios_world/latents.py", "helios_world/released.py"),
        *("demos/doctor.py", "demos/eval.py", "demos/serve.py", "helios_world/nvjpeg.py"),
    ),
    "matplotlib": ("demos/plots.py", "demos/runs.py"),
    "torchvision": ("helios_world/nvjpeg.py",),
    "diffusers": ("helios_world/model/wan.py",),
    "transformers": ("helios_world/model/text.py",),
    "ftfy": ("helios_world/model/text.py",),
}
MAY_IMPORT_TRAINING = ("demos/eval.py", "helios_world/training/")
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_LOOP = 500, 60, 120
LOOPS = {"training_loop": "helios_world/training/", "run": "demos/"}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
EMPTY_WORDS = {"utils", "util", "helpers", "common", "misc", "manager", "core", "v2"}


def source_files():
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def place(path):
    return path.relative_to(ROOT).as_posix()


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = (*FOLDERS[parts[0]].split("."), *parts[1:])
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(path):
    """Modules that `path` imports when it runs, at its top or inside functions."""
    found, waiting = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if is_type_checking(node):
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}:{node.lineno}: absolute imports only"
            known = node.module == "helios_world"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if known else {node.module}
    return found


def layer_of(module):
    """Index into LAYERS and name of the part of helios_world that `module` belongs to; None for strangers."""
    parts = module.split(".")
    if parts[0] != "helios_world" or len(parts) == 1:
        return None
    for index, layer in enumerate(LAYERS):
        if parts[1] in layer:
            return index, parts[1]
    return None


FACADES = {"helios_world", "helios_world.__main__", "helios_world.worlds"}


@pytest.mark.parametrize("path", source_files(), ids=place)
def test_imports_point_downwards(path):
    name = module_name(path)
    if name in FACADES:
        return
    own = layer_of(name)
    assert own, f"{name} has no place in LAYERS: say where it belongs"
    for imported in imports_of(path):
        other = layer_of(imported)
        if other and other[1] != own[1]:
            assert other[0] < own[0], f"{name} must not import {imported}, which stands above or beside it"


@pytest.mark.parametrize("path", source_files(), ids=place)
def test_modules_that_few_need_are_imported_in_few_places(path):
    tops = {name.split(".")[0] for name in imports_of(path)}
    for module, homes in HOMES.items():
        assert module not in tops or place(path).startswith(homes), f"{place(path)} must not import {module}"
    if any(name.startswith("helios_world.training") for name in imports_of(path)):
        assert place(path).startswith(MAY_IMPORT_TRAINING), f"{place(path)} must not need the training code"
    assert not tops & FORBIDDEN_IMPORTS, f"{place(path)} must not use {tops & FORBIDDEN_IMPORTS}"


def test_an_upward_import_would_be_seen(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from helios_world.engine import Session\nfrom helios_world import open_session\n")
    assert imports_of(wrong) == {"helios_world.engine", "helios_world.open_session"}
    assert layer_of("helios_world.engine")[0] > layer_of("helios_world.world")[0]


def test_importing_is_light():
    light = ["helios_world", "helios_world.envs.world_env", "helios_world.engine", "helios_world.pack"]
    light += ["helios_world.controllers", "helios_world.bridge.client", "helios_world.demos.cli"]
    heavy = {"torch", "pygame", "aiohttp", "av", "PIL", "vizdoom", "safetensors", "diffusers", "transformers", "ftfy"}
    code = f"import sys\nfor name in {light}: __import__(name)\nprint(*({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (ran.stdout, ran.stderr) == ("\n", "")


@pytest.mark.parametrize("folder", ["envs", "controllers", "demos"])
def test_the_folders_are_not_importable_by_their_bare_names(folder):
    ran = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert ran.returncode == 1 and f"import helios_world.{folder}, not {folder}" in ran.stderr


def test_pyproject_lists_every_package():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(module_name(path) for path in source_files() if path.name == "__init__.py")


@pytest.mark.parametrize("path", [*source_files(), *sorted((ROOT / "tests").glob("*.py"))], ids=place)
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            loop = place(path).startswith(LOOPS.get(node.name, "nowhere"))
            lines = node.end_lineno - node.lineno + 1
            assert lines < (LONGEST_LOOP if loop else LONGEST_FUNCTION), f"{place(path)}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", source_files(), ids=place)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{place(path)} has no docstring"
    assert path.stem not in EMPTY_WORDS, f"{place(path)}: name it by what it holds"
