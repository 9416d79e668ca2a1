"""From logits of batches in which half came to probabilities of the real game.

Shapes: n chunks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

START_WEIGHT = 1.0  # of the line that a fit starts from: it decides where little came


@torch.enable_grad()
def fit_line(logits_n: Tensor, came_n: Tensor, log_odds: float) -> tuple[float, float]:
    """a and b of sigmoid(a logit + b), the likeliest for what came (Platt scaling).

    It starts at a = 1, b = log_odds, the whole correction where logits are right about batches in which half came; half
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
