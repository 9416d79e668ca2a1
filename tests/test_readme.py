"""The README is true: its commands parse, its programs run, its tables and links hold."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helios_world import UserError
from helios_world.demos import tables
from helios_world.demos.cli import COMMANDS, make_parser

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REMOTE = "tcp://127.0.0.1:5557"


def command_lines(text):
    """Every line of a code block that begins with helios-world, without the name."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    joined = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in joined if re.match(r"(\.venv/bin/)?helios-world ", line)]


def programs(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_are_accepted(path):
    lines = command_lines(path.read_text(encoding="utf-8"))
    for words in lines:
        try:
            make_parser(words[0]).parse_args(words)
        except SystemExit as ended:
            assert ended.code == 0, f"{path.name}: helios-world {' '.join(words)}"


def test_every_command_and_make_target_is_shown():
    assert all(f"helios-world {name}" in README for name in COMMANDS)
    targets = re.findall(r"^make (\w+)$", README, re.MULTILINE)
    assert targets == ["play", "test"]
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)


def run_program(program, folder):
    """Elsewhere than in the checkout, which need not be installed."""
    words, environ = [sys.executable, "-c", program], {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("program", [p for p in programs(README) if REMOTE not in p])
def test_programs_run(program, tmp_path):
    run_program(program, tmp_path)


@pytest.mark.parametrize("program", [p for p in programs(README) if REMOTE in p])
def test_programs_for_a_server_run(program, tmp_path, address):
    run_program(program.replace(REMOTE, address), tmp_path)


def test_there_is_a_program_for_each_face():
    local, remote = programs(README)
    assert "gym.make" in local and REMOTE in remote


def test_every_key_of_the_window_is_shown():
    pytest.importorskip("pygame")
    from helios_world.demos.window_keys import WINDOW_KEYS

    rows = re.findall(r"^\| (.*?) \|", README, re.MULTILINE)
    shown = {key for row in rows for key in row.split(", ")}
    wanted = {key for keys, _ in WINDOW_KEYS for key in keys.split(" / ") if not key.startswith("Shift")}
    assert wanted <= shown


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tables_are_what_the_files_say(path):
    text = path.read_text(encoding="utf-8")
    assert text == tables.rewrite(text, ROOT), "run: python -m helios_world.demos.tables"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", [ROOT / "docs" / "architecture.md"], ids=lambda path: path.name)
def test_files_named_in_the_architecture_exist(path):
    text = path.read_text(encoding="utf-8")
    named = set(
        re.findall(r"`((?:helios_world|envs|controllers|demos|bridge|model|sampling|tests)/[\w/]*\.?(?:py)?)", text)
    )
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "helios_world" / name).exists(), f"{name} is not there"


def result(**figures):
    origin = {"machine": {"cpu": "Toaster", "cpus": 2}, "versions": {}, "commit": "abc", "command": "bench", "seed": 0}
    return json.dumps({**figures, **origin})


def checkout(folder, readme, **results):
    (folder / "docs" / "results").mkdir(parents=True)
    (folder / "README.md").write_text(readme)
    for name, text in results.items():
        (folder / "docs" / "results" / f"{name.replace('_', '-')}.json").write_text(text)
    return folder


def test_figures_come_from_the_results_one_column_each(tmp_path, capsys):
    text = "before\n<!-- made: figures play -->\nold\n<!-- end -->\nafter\n"
    two = result(fps=17.5, chunk_ms_p95=61.239)
    one = result(fps=30.0, psnr_db={"1": 25.04})
    root = checkout(tmp_path, text, play_home=two, play_big=one, doom_big=result(psnr_db=1.0))
    assert tables.main(["--root", str(root)]) == 0
    made = (root / "README.md").read_text()
    assert "| figure | big | home |" in made and "| `fps` | 30.00 | 17.50 |" in made
    assert "| `psnr_db.1` | 25.04 |  |" in made and "| `chunk_ms_p95` |  | 61.24 |" in made
    assert "- home: Toaster, 2; `bench`, seed 0, commit abc" in made
    assert made.startswith("before\n") and made.endswith("<!-- end -->\nafter\n") and "old" not in made
    assert tables.rewrite(made, root) == made
    chosen = tables.rewrite(text.replace("figures play", "figures play fps"), root)
    assert "`fps`" in chosen and "chunk_ms" not in chosen


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("figures play speed", "results of play have no speed: they have fps"),
        ("figures bad", "lacks machine"),
        ("figures torn", "is not JSON"),
        ("weather", "unknown marked part weather"),
    ],
)
def test_what_cannot_be_made_is_named(tmp_path, mark, words):
    root = checkout(tmp_path, "", play_home=result(fps=1.0), bad_home='{"fps": 1}', torn_home='{"fps')
    with pytest.raises(UserError, match=words):
        tables.rewrite(f"<!-- made: {mark} -->\n<!-- end -->\n", root)
