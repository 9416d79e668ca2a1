"""Muon (Keller Jordan, kellerjordan.github.io/posts/muon): momentum whose singular values are all brought close to one.

Equals `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, which takes matrices one after another; here those of
equal shape are one batch, so that a step of many small matrices is few kernels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS, STEPS, EPSILON = (3.4445, -4.7750, 2.0315), 5, 1e-7


class Muon(torch.optim.Optimizer):
    """For a matrix W with gradient G, momentum m, rate r and decay d, as in `torch.optim.Muon`:

        B <- m B + (1 - m) G
        W <- (1 - r d) W - 0.2 r max(rows, columns)^(1/2) O((1 - m) G + m B)

    with O of `orthogonalised`, Nesterov's look ahead in its argument, and the factor that makes the root mean square
    of an update AdamW's (arXiv 2502.16982, equation 4). A matrix without gradient stays as it is, its momentum too.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, *, weight_decay: float, momentum: float = 0.95):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            alike = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape, matrix.dtype, matrix.device].append(matrix)
            for matrices in alike.values():
                self._step_alike(matrices, group)

    def _step_alike(self, matrices: Sequence[Tensor], group: dict[str, Any]) -> None:
        """A step of matrices of one shape, number format and device, all with gradients."""
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        gradients = [matrix.grad for matrix in matrices]
        momenta = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch.stack(torch._foreach_lerp(gradients, momenta, group["momentum"]))
        # Float and contiguous like the matrices: otherwise the sum below is a kernel for each of them.
        updates = orthogonalised(ahead).to(ahead.dtype, memory_format=torch.contiguous_format)
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * 0.2 * math.sqrt(max(matrices[0].shape))
        torch._foreach_add_(matrices, updates.unbind(), alpha=-rate)


def orthogonalised(matrices_NRC: Tensor) -> Tensor:
    """About U V^T of each U S V^T, in bfloat16: the Newton-Schulz iteration, five times on X / |X|

        X <- a X + (b A + c A^2) X,  A = X X^T

    whose coefficients raise small singular values fast: those from 0.002 to 1 end between 0.68 and 1.2. The shorter
    side stands first, so that A is small.
    """
    a, b, c = COEFFICIENTS
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.bfloat16()
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPSILON)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
