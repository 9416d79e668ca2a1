"""The command line: what it imports, what it says, and its exit codes."""

import json
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest

from helios_world import UserError
from helios_world.card import WorldCard
from helios_world.demos import cli, doctor, worlds
from helios_world.demos.cli import COMMANDS, EXTRAS, Command, main
from helios_world.errors import ConnectionLost
from helios_world.testing import FAKE_CARD


@pytest.fixture
def command(monkeypatch):
    """Puts a command `try` in place whose run does what the test says."""

    def install(run):
        module = SimpleNamespace(add_arguments=lambda parser: parser.add_argument("--run"), run=run)
        monkeypatch.setattr(cli, "import_module", lambda name: module)
        monkeypatch.setitem(COMMANDS, "try", Command("nowhere", "try something", ("try",)))

    return install


def raiser(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("unknown scene 'moon'"), 2, "helios-world: unknown scene 'moon'\n"),
        (ConnectionLost("nothing answers"), 1, "helios-world: nothing answers\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            ModuleNotFoundError("No module named 'vizdoom'", name="vizdoom"),
            2,
            "helios-world: vizdoom is not installed: pip install 'helios-world[doom]'\n",
        ),
        (
            ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"),
            2,
            "helios-world: torch is not installed: pip install 'helios-world[engine]'\n",
        ),
    ],
)
def test_errors_become_one_line_and_an_exit_code(command, capsys, error, code, line):
    command(raiser(error))
    assert main(["try"]) == code
    assert capsys.readouterr().err == line


def test_a_mistake_of_ours_is_not_hidden(command):
    command(raiser(ModuleNotFoundError("No module named 'helios_world.nonsense'", name="helios_world.nonsense")))
    with pytest.raises(ModuleNotFoundError):
        main(["try"])


def test_a_command_gets_its_arguments_and_gives_its_exit_code(command):
    seen = []
    command(lambda args: seen.append(args.run) or 1)
    assert main(["try", "--run", "here"]) == 1
    assert seen == ["here"]


@pytest.mark.parametrize("words", [[], ["dance"], ["doctor", "--dance"]])
def test_unknown_words_end_with_code_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: helios-world" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"    {name} " in text and command.help in text for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"usage: helios-world {name}" in text and f"examples:\n  helios-world {name}" in text
    parser = cli.make_parser(name)._subparsers._group_actions[0].choices[name]
    assert not [action.dest for action in parser._actions if not action.help], "every option needs a help line"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_the_help_are_valid(name):
    for example in COMMANDS[name].examples:
        words = shlex.split(example)
        if "--help" not in words:
            assert cli.make_parser(name).parse_args(words)._command == name


def test_version_is_that_of_the_project(capsys, pytestconfig):
    with pytest.raises(SystemExit):
        main(["--version"])
    name, version = capsys.readouterr().out.split()
    assert name == "helios-world"
    assert f'version = "{version}"' in (pytestconfig.rootpath / "pyproject.toml").read_text()


def test_only_the_chosen_command_is_imported():
    listed = "import sys; print([m for m in sys.modules if m.startswith('helios_world.demos.')])"
    code = f"from helios_world.demos.cli import main\nmain(['worlds', '--json'])\n{listed}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    modules = ran.stdout.splitlines()[-1]
    assert sorted(json.loads(modules.replace("'", '"'))) == ["helios_world.demos.cli", "helios_world.demos.worlds"]


def test_extras_are_those_of_the_project(pytestconfig):
    import tomllib

    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])


def fake_pack(tmp_path):
    (tmp_path / "world.json").write_bytes(b"x" * 2**19)
    return SimpleNamespace(card=FAKE_CARD, licence="CC0-1.0", folder=tmp_path)


def test_worlds_lists_each_pack(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(worlds, "list_packs", lambda: ["fake"])
    monkeypatch.setattr(worlds, "read_pack", lambda name: fake_pack(tmp_path))
    assert main(["worlds"]) == 0
    text = capsys.readouterr().out
    for words in ("fake: 80x64, 17.5 fps, 0.5 MiB", "maze, hall", "turn_left", "licence: CC0-1.0"):
        assert words in text
    assert main(["worlds", "--json"]) == 0
    [world] = json.loads(capsys.readouterr().out)["worlds"]
    assert WorldCard.from_dict(world) == FAKE_CARD and world["size_mib"] == 0.5


def test_worlds_without_a_pack_says_so(monkeypatch, capsys):
    monkeypatch.setattr(worlds, "list_packs", list)
    assert main(["worlds"]) == 2
    assert "no world pack is installed" in capsys.readouterr().err


def run_doctor(monkeypatch, capsys, *findings):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter(findings),))
    code = main(["doctor", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_doctor_fails_only_for_what_is_needed(monkeypatch, capsys):
    fine, note = doctor.Finding("python", "ok", "3.11"), doctor.Finding("gpu", "note", "none")
    code, report = run_doctor(monkeypatch, capsys, fine, note)
    assert code == 0 and report["ok"] and {"machine", "versions"} <= set(report)
    code, report = run_doctor(monkeypatch, capsys, fine, doctor.Finding("worlds", "broken", "damaged"))
    assert code == 1 and not report["ok"] and report["findings"][1]["text"] == "damaged"


def test_doctor_finds_what_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "version_of", lambda package: None if package in ("numpy", "torch") else "1.0")
    states = {finding.subject: finding.state for finding in doctor.check_packages()}
    assert states["numpy"] == "broken" and states["torch"] == "note" and states["pygame"] == "broken"
    monkeypatch.setattr(doctor, "list_packs", list)
    assert [finding.state for finding in doctor.check_packs()] == ["broken"]
    assert [finding.state for finding in doctor.check_display({}, "linux")] == ["note"]
    assert [finding.state for finding in doctor.check_display({"DISPLAY": ":0"}, "linux")] == ["ok"]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HELIOS_WORLD_HOME", str(tmp_path / "file" / "below"))
    assert [finding.state for finding in doctor.check_home()] == ["broken"]


def test_doctor_reads_processor_flags(tmp_path):
    (tmp_path / "cpuinfo").write_text("model name\t: x\nflags\t\t: sse avx512_bf16\n")
    assert "avx512_bf16" in doctor.cpu_flags(tmp_path / "cpuinfo")
    assert doctor.cpu_flags(tmp_path / "missing") is None


def test_the_module_runs_as_the_command_does():
    ran = subprocess.run([sys.executable, "-m", "helios_world", "dance"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "argument COMMAND: invalid choice: 'dance'" in ran.stderr
