"""python -m helios_world.demos.tables: makes the marked parts of README.md and docs from the files they describe.

A marked part stands between `<!-- made: KIND WORDS -->` and `<!-- end -->`, where KIND is `tree` (folders and modules),
`commands`, `keys WORLD` (its bindings), or `figures NAME KEY...` (docs/results/NAME-*.json, these keys or all).
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helios_world.demos.cli import COMMANDS
from helios_world.errors import UserError
from helios_world.pack import read_card

MARKED = re.compile(r"(<!-- made: (?P<kind>\w+) *(?P<words>[^\n]*?) *-->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)
FOLDERS = ("helios_world", "envs", "controllers", "demos")
ORIGIN = ("machine", "versions", "commit", "command", "seed")


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrites the marked parts; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m helios_world.demos.tables", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="folder of the checkout (default: the current one)")
    root = parser.parse_args(argv).root
    for path in documents(root):
        old = path.read_text(encoding="utf-8")
        new = rewrite(old, root)
        if new != old:
            path.write_text(new, encoding="utf-8")
            print(f"rewrote {path}")
    return 0


def documents(root: Path) -> list[Path]:
    """README.md and every page under docs. UserError if `root` is not a checkout."""
    if not (root / "README.md").is_file():
        raise UserError(f"{root.resolve()} has no README.md: run this in a checkout, or give --root")
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def rewrite(text: str, root: Path) -> str:
    """`text` with every marked part made anew from the files under `root`. UserError for an unknown kind."""

    def made(match: re.Match[str]) -> str:
        kind, words = match["kind"], match["words"].split()
        if kind == "tree":
            body = tree(root)
        elif kind == "commands":
            body = commands()
        elif kind == "keys" and len(words) == 1:
            body = keys(root / "helios_world" / "worlds" / words[0])
        elif kind == "figures" and words:
            body = figures(words[0], words[1:], root / "docs" / "results")
        else:
            allowed = "tree, commands, keys WORLD, figures NAME"
            raise UserError(f"unknown marked part {kind} {match['words']!r}: choose from {allowed}")
        return f"{match[1]}{body}\n<!-- end -->"

    return MARKED.sub(made, text)


def tree(root: Path) -> str:
    """Every folder and module, with the first sentence of its docstring."""
    lines = []
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py"), key=lambda p: (p.parent, p.name != "__init__.py", p.name)):
            depth = len(path.relative_to(root).parts) - 1
            package = path.name == "__init__.py"
            name = f"{path.parent.name}/" if package else path.name
            lines.append((f"{'  ' * (depth - package)}{name}", first_sentence(path)))
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(["```", *(f"{name:<{width}}{words}".rstrip() for name, words in lines), "```"])


def first_sentence(path: Path) -> str:
    """Of a module's docstring, without the full stop."""
    words = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
    return re.split(r"\.(?:\s|$)", words)[0]


def commands() -> str:
    """A table of the commands and what each is for."""
    rows = [f"| `helios-world {name}` | {command.help} |" for name, command in COMMANDS.items()]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def keys(pack: Path) -> str:
    """A table of the keys that hold each button in the world of a pack folder."""
    if not pack.is_dir():
        return f"There is no world `{pack.name}` yet."
    card = read_card(str(pack))
    held = {button: [key for key, bound in card.bindings.items() if bound == button] for button in card.buttons}
    rows = [f"| {', '.join(names)} | {button.replace('_', ' ')} |" for button, names in held.items() if names]
    return "\n".join(["| key | holds |", "|---|---|", *rows])


def figures(name: str, keys: Sequence[str], folder: Path) -> str:
    """A table of the results `name`, one column for each machine. UserError for a key that no result has."""
    results = {path.stem.removeprefix(f"{name}-"): read_result(path) for path in sorted(folder.glob(f"{name}-*.json"))}
    if not results:
        return f"No result of `{name}` is committed yet."
    flat = {machine: flatten({k: v for k, v in r.items() if k not in ORIGIN}) for machine, r in results.items()}
    known = list(dict.fromkeys(key for row in flat.values() for key in row))
    missing = [key for key in keys if key not in known]
    if missing:
        raise UserError(f"results of {name} have no {', '.join(missing)}: they have {', '.join(known)}")
    rows = [[f"`{key}`", *(readable(row.get(key)) for row in flat.values())] for key in keys or known]
    origins = [f"{machine}: {origin(result)}" for machine, result in results.items()]
    head = ["| figure | " + " | ".join(flat) + " |", "|---|" + "---|" * len(flat)]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows), "", *(f"- {line}" for line in origins)])


def read_result(path: Path) -> dict[str, Any]:
    """One committed result. UserError if it is not what `bench` and `eval` print."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})") from None
    missing = [key for key in ORIGIN if not isinstance(result, dict) or key not in result]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: commit what `bench` or `eval` printed with --json")
    return result


def origin(result: Mapping[str, Any]) -> str:
    """Where a result comes from, in one line."""
    machine = result["machine"]
    where = ", ".join(f"{value}" for value in machine.values()) if isinstance(machine, dict) else str(machine)
    return f"{where}; `{result['command']}`, seed {result['seed']}, commit {result['commit']}"


def flatten(values: Mapping[str, Any] | Sequence[Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures by dotted key: {"psnr_db": {"1": 25.0}} as {"psnr_db.1": 25.0}; lists count from 0."""
    items = values.items() if isinstance(values, Mapping) else enumerate(values)
    flat: dict[str, Any] = {}
    for key, value in items:
        inner = isinstance(value, Mapping | list)
        flat.update(flatten(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value})
    return flat


def readable(value: Any) -> str:
    """As a table shows it: two decimals, or three digits for small numbers; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3g}"
    return str(value)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as mistake:
        print(f"helios-world: {mistake}", file=sys.stderr)
        sys.exit(2)
