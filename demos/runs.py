"""python -m helios_world.demos.runs: what `eval --json` measured of several worlds, as curves in one picture.

Each file is a world, and called as the file is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helios_world.demos.plots import check_plots
from helios_world.demos.tables import read_result
from helios_world.errors import UserError

SIZE = (13.0, 4.0)  # inches, at 100 pixels each
PANELS = {  # by key of what `eval` prints: title and unit of the horizontal axis
    "psnr_db": ("PSNR to the real game", "chunk"),
    "sharpness_to_real": ("Sharpness over the real game's", "seconds"),
    "frechet": ("Frechet distance to other real games", "seconds"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the picture; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m helios_world.demos.runs", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", metavar="FILE", help="what `eval --json` printed")
    parser.add_argument("--out", type=Path, required=True, help="the picture to draw, a PNG")
    args = parser.parse_args(argv)
    check_plots()
    draw_runs({path.stem: read_result(path) for path in args.results}, args.out)
    return 0


def draw_runs(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A panel for each of PANELS, a curve in it for each world. UserError for a world of which it was not measured."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    for axes, (key, (title, unit)) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        ticks = set()
        for name, values in results.items():
            if key not in values:
                raise UserError(f"{name} has no {key}: it needs a probe to be measured with")
            curve = values[key]
            at = [int(place.removesuffix("_s")) for place in curve]
            axes.plot(at, list(curve.values()), "o-", label=name, markersize=4)
            ticks |= set(at)
        axes.set(title=title, xlabel=unit, xscale="log")
        axes.set_xticks(sorted(ticks), sorted(ticks))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as mistake:
        print(f"helios-world: {mistake}", file=sys.stderr)
        sys.exit(2)
