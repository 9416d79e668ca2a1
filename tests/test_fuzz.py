"""A short run of each fuzzer, and every input that fuzzing was glad to find. `make fuzz` runs them for an hour."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import seeds
from tests.fuzz.__main__ import KEPT, TARGETS
from tests.fuzz.records import Record, join, mutator, split

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 10


@pytest.mark.fuzz
@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_fuzzing_finds_nothing(target, tmp_path):
    pytest.importorskip("atheris", reason="atheris has wheels for Linux on x86-64 alone: pip install atheris")
    words = [sys.executable, "-m", "tests.fuzz", target, "--seconds", str(SECONDS), "--folder", str(tmp_path)]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-5000:]
    assert int(ran.stderr.rsplit("stat::number_of_executed_units:", 1)[1].split()[0]) > 200


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_found_does_not_come_back(target):
    files = sorted((KEPT / target).iterdir())
    words = [sys.executable, "-m", "tests.fuzz", target, *map(str, files)]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, f"{ran.stdout.splitlines()[-1:]}\n{ran.stderr[-5000:]}"
    assert files and ran.stdout.splitlines() == [str(path) for path in files]


@pytest.mark.fuzz
def test_a_failing_input_ends_with_its_path(tmp_path):
    """Planted: the driver must see it, write it and say where."""
    pytest.importorskip("atheris", reason="atheris has wheels for Linux on x86-64 alone: pip install atheris")
    code = (
        "import sys; from helios_world.bridge import protocol; from tests.fuzz.__main__ import main\n"
        "protocol._check_frames = lambda message: None\n"
        f"sys.exit(main(['decoder', '--seconds', '30', '--folder', {str(tmp_path)!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode != 0
    written = Path(ran.stderr.rsplit("Test unit written to ", 1)[1].split()[0])
    assert written.parent == tmp_path / "decoder" and written.is_file()


def test_records_are_split_as_they_were_joined():
    records = [Record(3, b"abc"), Record(0, b""), Record(255, bytes(1000))]
    assert split(join(records)) == records
    assert split(b"") == split(b"\0\0") == [] and split(b"\7\0\5ab") == [Record(7, b"ab")]


@pytest.mark.parametrize("target", TARGETS)
def test_mutations_fit_and_mostly_stay_in_order(target):
    change, whole = mutator(lambda data, size: bytes(reversed(data))[:size]), 0
    inputs = list(getattr(seeds, target)())
    for seed in range(300):
        data = inputs[random.Random(seed).randrange(len(inputs))]
        changed = change(data, 30_000, seed)
        assert len(changed) <= 30_000
        whole += join(split(changed)) == changed
    assert whole > 150
