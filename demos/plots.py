"""Curves of what `eval` measured, as one picture: likeness by chunk, looks over time; what a probe reads below."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from helios_world.drift import LOOKS
from helios_world.errors import MissingExtra

SIZE = (13.0, 4.0)  # inches of a row of three, at 100 pixels each
WHO = {"": "made up", "real_": "real game", "copy_last_": "last frame repeated", "data_mean_": "mean of the data"}
STYLES = {
    "": {"color": "C0", "marker": "o"},
    "real_": {"color": "C2", "marker": "o", "linestyle": ":"},
    "copy_last_": {"color": "C1", "marker": "o"},
    "data_mean_": {"color": "grey", "linestyle": "--"},
}


def check_plots() -> None:
    """MissingExtra without matplotlib; to be called before what is to be drawn is measured."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "plots")


def draw_curves(values: Mapping[str, Any], path: Path) -> None:
    """Draws the figures of one `eval` to a PNG: three panels, and a row more where a probe read its pictures."""
    from matplotlib.figure import Figure

    rows = 2 if "inverse_dynamics" in values else 1
    figure = Figure(figsize=(SIZE[0], rows * SIZE[1]), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False)
    _likeness(panels[0][0], panels[0][1], values)
    _looks(panels[0][2], values)
    if rows == 2:
        _frechet(panels[1][0], values)
        _dynamics(panels[1][1], values["inverse_dynamics"])
        _state(panels[1][2], values["state_probe"])
    for axes in panels.flat:
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _likeness(nearness: Any, structure: Any, values: Mapping[str, Any]) -> None:
    _curve(nearness, values["psnr_db"])
    _curve(nearness, values["psnr_copy_last_db"], "copy_last_")
    nearness.plot(1, values["psnr_shuffled_actions_db"], "x", color="C3", label="another game's actions")
    nearness.axhline(values["psnr_autoencoder_db"], linestyle=":", color="C2", label="autoencoder alone")
    nearness.axhline(values["psnr_mean_frame_db"], linestyle="--", color="grey", label="mean frame")
    nearness.set(title="PSNR to the real game", xlabel="chunk", ylabel="dB")
    _curve(structure, values["ssim"])
    _curve(structure, values["ssim_copy_last"], "copy_last_")
    structure.axhline(values["ssim_autoencoder"], linestyle=":", color="C2", label="autoencoder alone")
    _curve(structure, values["ssim_mean_frame"], "data_mean_")
    structure.set(title="SSIM to the real game", xlabel="chunk", ylim=(0, 1))
    if len(values["psnr_db"]) > 6:
        for axes in (nearness, structure):
            axes.set_xscale("log", base=2)


def _looks(look: Any, values: Mapping[str, Any]) -> None:
    for name in (*LOOKS, "change"):
        ratios = values[f"{name}_to_real"]
        look.plot(_seconds(ratios), list(ratios.values()), "o-", label="change by frame" if name == "change" else name)
    look.axhline(1, linestyle=":", color="C2")
    look.set(title="Long rollouts over the real game", xlabel="seconds", ylim=(0, None))
    _stretch(look, values["sharpness_to_real"])


def _frechet(axes: Any, values: Mapping[str, Any]) -> None:
    for who, label in WHO.items():
        curve = values[f"{who}frechet"]
        axes.plot(_seconds(curve), list(curve.values()), label=label, **STYLES[who])
    axes.set(title="Frechet distance to other real games", xlabel="seconds", yscale="log")
    _stretch(axes, values["frechet"])


def _dynamics(axes: Any, values: Mapping[str, Any]) -> None:
    """Bars by button."""
    names = list(values["balanced_accuracy"])
    for place, who in enumerate(("", "real_", "copy_last_")):
        heights = [values[f"{who}balanced_accuracy"][name] or 0.0 for name in names]
        left = [number + 0.28 * (place - 1) for number in range(len(names))]
        axes.bar(left, heights, 0.26, label=WHO[who], color=STYLES[who]["color"])
    axes.axhline(0.5, linestyle="--", color="grey", label="chance")
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=8)
    axes.set(title="Buttons that a probe sees at work", ylabel="balanced accuracy", ylim=(0, 1.3))


def _state(axes: Any, values: Mapping[str, Any]) -> None:
    """Errors of heading and position by chunk, as shares of what always saying the mean gets."""
    for name, marker in (("heading_deg", "o"), ("position_map_units", "s")):
        if name not in values:
            continue
        mean = values[f"data_mean_{name}"]
        for who in ("", "real_", "copy_last_"):
            curve = {k: error / mean[k] for k, error in values[f"{who}{name}"].items() if mean[k]}
            label = f"{name.split('_')[0]}, {WHO[who]}"
            axes.plot([int(k) for k in curve], list(curve.values()), label=label, **STYLES[who] | {"marker": marker})
    axes.axhline(1, linestyle="--", color="grey", label=WHO["data_mean_"])
    axes.set(
        title="Error of the state that a probe reads", xlabel="chunk", ylabel="share of the mean's", ylim=(0, None)
    )


def _curve(axes: Any, curve: Mapping[str, float], who: str = "") -> None:
    axes.plot([int(chunk) for chunk in curve], list(curve.values()), label=WHO[who], **STYLES[who])


def _seconds(curve: Mapping[str, float]) -> list[int]:
    return [int(at.removesuffix("_s")) for at in curve]


def _stretch(axes: Any, curve: Mapping[str, float]) -> None:
    """Times over more than a minute on a logarithmic axis."""
    if max(_seconds(curve), default=0) > 60:
        axes.set_xscale("log")
