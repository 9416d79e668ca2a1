"""`python -m tests.fuzz`: coverage-guided fuzzing of the decoder, a live port and a live gateway, with atheris.

`python -m tests.fuzz TARGET FILE...` runs files that failed once more. Without a target the time is split over all.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import logging
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

TARGETS = ("decoder", "router", "gateway")
KEPT = Path(__file__).resolve().parent / "corpus"  # what fuzzing found, the smallest inputs for each path
WATCHED = ["helios_world.bridge", "helios_world.gateway", "helios_world.snapshot", "helios_world.prompts"]
LONGEST = 20_000  # bytes of one input
MEMORY = 2048  # MiB that may be taken beyond those of the start


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=TARGETS, help="what to fuzz (all)")
    parser.add_argument("files", nargs="*", type=Path, help="inputs to run once, in place of fuzzing")
    parser.add_argument("--seconds", type=int, default=60, help="how long, over all targets (60)")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="for inputs found and failures")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; 0 takes another each time (0)")
    args = parser.parse_args(argv)
    if args.target is None:
        share = max(1, args.seconds // len(TARGETS))
        words = [sys.executable, "-m", "tests.fuzz", "--seconds", str(share), "--folder", str(args.folder)]
        return max(subprocess.call([*words, target]) for target in TARGETS)
    if args.files:
        target = importlib.import_module(f"tests.fuzz.{args.target}")
        for path in args.files:
            print(path, flush=True)
            target.one(path.read_bytes())
        return 0
    fuzz(args.target, args.seconds, args.folder / args.target, args.seed)
    return 0


def fuzz(name: str, seconds: int, folder: Path, seed: int) -> None:
    """Does not return: libFuzzer ends the process, with code 0 when nothing failed."""
    import resource

    import atheris

    with atheris.instrument_imports(include=WATCHED):
        target = importlib.import_module(f"tests.fuzz.{name}")
        from tests.fuzz import seeds
        from tests.fuzz.records import mutator
    logging.disable(logging.ERROR)  # what is refused is told in many words
    found, given = folder / "found", folder / "seeds"
    write_inputs(given, getattr(seeds, name)())
    found.mkdir(parents=True, exist_ok=True)
    (KEPT / name).mkdir(parents=True, exist_ok=True)
    # The peak that libFuzzer looks at has that of whoever started this process in it: exec keeps it (getrusage(2)).
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    options = {
        "max_total_time": seconds,
        "max_len": LONGEST,
        "timeout": 20,
        "rss_limit_mb": began + MEMORY,
        "seed": seed,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
        "len_control": 0,
    }
    folders = [str(path) for path in (found, given, KEPT / name)]
    words = [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), *folders]
    mutate = mutator(lambda data, size: atheris.Mutate(data, size))  # looked up late: Fuzz() replaces it
    atheris.Setup(words, target.one, custom_mutator=mutate)
    atheris.Fuzz()


def write_inputs(folder: Path, inputs: Iterable[bytes]) -> None:
    """One file for each, named by what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
