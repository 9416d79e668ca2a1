"""The same arithmetic in fewer steps, for inference on a CPU, where each step is a walk through memory.

Each has its plain form beside it or in `attention.py`, which serves wherever these do not.

Shapes: B batch, N tokens, D width, h heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helios_world.model.rope import Table

DTYPES = (torch.float32, torch.bfloat16)
STRIDE = 16  # keys, of what processors with bfloat16 units multiply at once


def serves(x: Tensor, *layers: nn.Module) -> bool:
    """Whether x may go the lean way: nothing is learnt, compiled or cast, and the layers are plain ones."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or not x.is_cpu or x.dtype not in DTYPES:
        return False
    plain = all(type(layer) is nn.Linear and layer.weight.dtype == x.dtype for layer in layers)
    return plain and not torch.is_autocast_enabled("cpu")


def linear(layer: nn.Module, x: Tensor, *, gelu: bool = False) -> Tensor:
    """The layer's product, with GELU(tanh) after it if so asked.

    What oneDNN does with bfloat16 and GELU in one step takes PyTorch two; the tanh of GELU alone is as slow again as
    the product before it.
    """
    if serves(x, layer) and (gelu or x.dtype == torch.bfloat16) and _has_onednn(x.dtype):
        after, formula = ("gelu", "tanh") if gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, after, [], formula)
    product = layer(x)
    return F.gelu(product, approximate="tanh") if gelu else product


def modulate(x_BND: Tensor, shift_D: Tensor, scale_D: Tensor, eps: float) -> Tensor:
    """LayerNorm, scale and shift of tokens that one row rules: it is the weights of the norm."""
    return F.layer_norm(x_BND, x_BND.shape[-1:], 1 + scale_D, shift_D, eps)


def turned(x_BND: Tensor, norm: nn.RMSNorm, rope: Table) -> Tensor:
    """Queries or keys normed across all heads and turned by their positions, in float32; the result has the dtype of x.

    A turn is a complex product, and commutes with the division by the root mean square.
    """
    square = torch.linalg.vector_norm(x_BND, dim=-1, dtype=torch.float32).square_()
    inverse = square.div_(x_BND.shape[-1]).add_(norm.eps).rsqrt_()
    turn = torch.complex(*rope)[..., None, :] * inverse[..., None, None]  # B N 1 D/2h
    pairs = (x_BND * norm.weight.float()).unflatten(-1, (-1, turn.shape[-1], 2))
    return torch.view_as_real(torch.view_as_complex(pairs).mul_(turn)).flatten(-3).to(x_BND.dtype)


def attention(q_BhND: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attention to groups of tokens, one after another.

    In bfloat16 on a CPU some that nobody sees fill up the last `STRIDE` keys: 386 keys take more than twice as long as
    400.
    """
    tokens = sum(part.shape[2] for part in keys)
    free = -tokens % STRIDE if q_BhND.dtype == torch.bfloat16 and serves(q_BhND) else 0
    if free:
        fill = q_BhND.new_zeros(()).expand(*keys[0].shape[:2], free, keys[0].shape[3])
        keys, values = (*keys, fill), (*values, fill)
    k, v = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=2) for parts in (keys, values))
    if not free:
        return F.scaled_dot_product_attention(q_BhND, k, v)
    mask = q_BhND.new_zeros(tokens + free)
    mask[tokens:] = -torch.inf
    return F.scaled_dot_product_attention(q_BhND, k, v, attn_mask=mask.expand(1, 1, q_BhND.shape[2], -1))


@cache
def _has_onednn(dtype: torch.dtype) -> bool:
    """Whether the product that PyTorch's own compiler asks of oneDNN is there; it has no public name."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")):
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise")
