"""From logits of a game in which half came to probabilities of the real game, and how good such probabilities are.

Shapes: n chunks.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

START_WEIGHT = 1.0  # of the line that a fit starts from: it decides where little came
BINS = 10


@torch.enable_grad()
def fit_line(logits_n: Tensor, came_n: Tensor, log_odds: float) -> tuple[float, float]:
    """a and b of sigmoid(a logit + b), the likeliest for what came (Platt scaling).

    It starts at a = 1, b = log_odds, the whole correction where logits are right about a game in which half came; half
    a squared distance from there is taken off the log likelihood.
    """
    start = torch.tensor([1.0, log_odds], dtype=torch.float64)
    line = start.clone().requires_grad_(True)
    logits, came = logits_n.double().cpu(), came_n.double().cpu()
    optimizer = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        optimizer.zero_grad()
        error = F.binary_cross_entropy_with_logits(line[0] * logits + line[1], came, reduction="sum")
        value = error + 0.5 * START_WEIGHT * (line - start).square().sum()
        value.backward()
        return value

    optimizer.step(cost)
    scale, bias = line.tolist()
    return scale, bias


def score(chances_n: np.ndarray, came_n: np.ndarray) -> dict[str, float | None]:
    """How well chances tell what came, and what always saying the base rate would get."""
    rate = float(came_n.mean())
    return {
        "base_rate": round(rate, 5),
        "auc": None if (area := auc(chances_n, came_n)) is None else round(area, 4),
        "brier": round(brier(chances_n, came_n), 5),
        "brier_base_rate": round(rate * (1 - rate), 5),
        "calibration_error": round(calibration_error(chances_n, came_n), 5),
    }


def auc(chances_n: np.ndarray, came_n: np.ndarray) -> float | None:
    """How often a chunk with which it came has the higher chance than one without; ties are half. None without both."""
    many, few = int((~came_n).sum()), int(came_n.sum())
    if not many or not few:
        return None
    _, place, counts = np.unique(chances_n, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[place]  # from 1; equal chances share the mean of theirs
    return float((ranks[came_n].sum() - few * (few + 1) / 2) / (few * many))


def brier(chances_n: np.ndarray, came_n: np.ndarray) -> float:
    """Mean squared error of the chances."""
    return float(((chances_n - came_n) ** 2).mean())


def calibration_error(chances_n: np.ndarray, came_n: np.ndarray) -> float:
    """|mean chance - share that came| in BINS equal bins of the chance, their mean weighted by chunks."""
    bins = np.minimum((chances_n * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, chances_n - came_n)).sum() / len(came_n))
