"""Curves of what `eval` measured, as one picture: PSNR and SSIM by chunk, and the look of long rollouts over time."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from helios_world.drift import LOOKS
from helios_world.errors import MissingExtra

SIZE = (13.0, 4.0)  # inches, at 100 pixels each


def check_plots() -> None:
    """MissingExtra without matplotlib; to be called before what is to be drawn is measured."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "plots")


def draw_curves(values: Mapping[str, Any], path: Path) -> None:
    """Draws the figures of one `eval` to a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    nearness, structure, look = figure.subplots(1, 3)
    _by_chunk(nearness, values["psnr_db"], "made up")
    _by_chunk(nearness, values["psnr_copy_last_db"], "last frame repeated")
    nearness.plot(1, values["psnr_shuffled_actions_db"], "x", label="another game's actions")
    nearness.axhline(values["psnr_autoencoder_db"], linestyle=":", color="grey", label="autoencoder alone")
    nearness.axhline(values["psnr_mean_frame_db"], linestyle="--", color="grey", label="mean frame")
    nearness.set(title="PSNR to the real game", xlabel="chunk", ylabel="dB")
    _by_chunk(structure, values["ssim"], "made up")
    _by_chunk(structure, values["ssim_copy_last"], "last frame repeated")
    structure.set(title="SSIM to the real game", xlabel="chunk", ylim=(0, 1))
    for name in LOOKS:
        ratios = values[f"{name}_to_real"]
        look.plot([int(at.removesuffix("_s")) for at in ratios], list(ratios.values()), "o-", label=name)
    look.axhline(1, linestyle=":", color="grey")
    look.set(title="Long rollouts over the real game", xlabel="seconds", ylim=(0, None))
    for axes in (nearness, structure, look):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _by_chunk(axes: Any, curve: Mapping[str, float], label: str) -> None:
    axes.plot([int(chunk) for chunk in curve], list(curve.values()), "o-", label=label)
