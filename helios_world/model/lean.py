"""The same arithmetic in fewer steps, for inference on a CPU, where each step is a walk through memory.

Each has its plain form beside it or in `attention.py`, which serves wherever these do not.

Shapes: B batch, N tokens, D width, h heads, R modulation rows.
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
    """The layer's product, with GELU(tanh) after it if so asked."""
    if serves(x, layer):
        return _product(x, layer.weight, layer.bias, gelu=gelu)
    return F.gelu(layer(x), approximate="tanh") if gelu else layer(x)


def modulate(x_BND: Tensor, shift_BRD: Tensor, scale_BRD: Tensor, eps: float) -> Tensor:
    """LayerNorm, scale and shift; where one row rules all tokens, they are the weights of the norm."""
    if scale_BRD.shape[:2] == (1, 1):
        return F.layer_norm(x_BND, x_BND.shape[-1:], 1 + scale_BRD[0, 0], shift_BRD[0, 0], eps)
    normed = F.layer_norm(x_BND.float(), x_BND.shape[-1:], eps=eps).unflatten(1, (scale_BRD.shape[1], -1))
    return torch.addcmul(shift_BRD[:, :, None], normed, 1 + scale_BRD[:, :, None]).flatten(1, 2).to(x_BND.dtype)


def gated(x_BND: Tensor, update_BND: Tensor, gate_BRD: Tensor) -> Tensor:
    """x + update * gate in one step."""
    x, update = (part.float().unflatten(1, (gate_BRD.shape[1], -1)) for part in (x_BND, update_BND))
    return torch.addcmul(x, update, gate_BRD[:, :, None]).flatten(1, 2).to(x_BND.dtype)


def project(
    x_BND: Tensor, layers: Sequence[nn.Module], norms: Sequence[nn.RMSNorm], heads: int, rope: Table
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, h, N, D/h) in one product; the first two normed and turned together in float32.

    A turn is a complex product, and commutes with the division by the root mean square.

    Args:
        layers: of queries, keys and values.
        norms: of queries and keys.
    """
    weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
    width = x_BND.shape[-1]
    qk, v = _product(x_BND, weight, bias).split((2 * width, width), dim=-1)
    qk = qk.unflatten(-1, (2, width))
    square = torch.linalg.vector_norm(qk, dim=-1, dtype=torch.float32).square_()
    inverse = square.div_(width).add_(norms[0].eps).rsqrt_()  # B N 2
    turn = torch.complex(*rope)[..., None, None, :] * inverse[..., None, None]  # B N 2 1 D/2h
    scaled = qk * torch.stack([norm.weight for norm in norms]).float()
    turned = torch.view_as_real(torch.view_as_complex(scaled.unflatten(-1, (heads, -1, 2))).mul_(turn)).flatten(-2)
    q, k = (part.to(x_BND.dtype).transpose(1, 2) for part in turned.unbind(2))
    return q, k, v.unflatten(-1, (heads, -1)).transpose(1, 2)


def attention(q_BhND: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attention to groups of tokens, one after another.

    In bfloat16 some that nobody sees fill up the last `STRIDE` keys: 386 keys take more than twice as long as 400.
    """
    tokens = sum(part.shape[2] for part in keys)
    free = -tokens % STRIDE if q_BhND.dtype == torch.bfloat16 else 0
    if not free:
        return F.scaled_dot_product_attention(q_BhND, torch.cat(list(keys), dim=2), torch.cat(list(values), dim=2))
    fill = q_BhND.new_zeros(()).expand(*keys[0].shape[:2], free, keys[0].shape[3])
    k, v = (torch.cat([*parts, fill], dim=2) for parts in (keys, values))
    mask = q_BhND.new_zeros(tokens + free)
    mask[tokens:] = -torch.inf
    return F.scaled_dot_product_attention(q_BhND, k, v, attn_mask=mask.expand(1, 1, q_BhND.shape[2], -1))


def _product(x: Tensor, weight: Tensor, bias: Tensor, *, gelu: bool = False) -> Tensor:
    """What oneDNN does with bfloat16 and GELU in one step takes PyTorch two; the tanh of GELU alone is as slow again
    as the product before it."""
    if (gelu or x.dtype == torch.bfloat16) and _has_onednn(x.dtype):
        after, formula = ("gelu", "tanh") if gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], formula)
    product = F.linear(x, weight, bias)
    return F.gelu(product, approximate="tanh") if gelu else product


@cache
def _has_onednn(dtype: torch.dtype) -> bool:
    """Whether the product that PyTorch's own compiler asks of oneDNN is there; it has no public name."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")):
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise")
