"""Attention with query and key norms across all heads, and the block built around it.

Shapes: B batch, N tokens, D width, h heads, R modulation rows (one per latent frame or per sample).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helios_world.config import TransformerConfig
from helios_world.model.rope import Table, apply_rope

KeysValues = tuple[Tensor, Tensor]  # each (B, h, N, D/h)


class Modulation(NamedTuple):
    """Rows of (shift, scale, gate) and how many tokens each row rules."""

    rows_BRKD: Tensor
    tokens: tuple[int, ...]  # one count per row


class Attention(nn.Module):
    """Projections of one attention; who attends to whom is the block's matter."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        width = config.width
        self.heads = config.num_attention_heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.norm_q, self.norm_k = (nn.RMSNorm(width, eps=config.eps) for _ in range(2))

    def queries(self, x_BND: Tensor, rope: Table | None) -> Tensor:
        return self._heads(_normed(self.to_q(x_BND), self.norm_q), rope)

    def keys_values(self, x_BND: Tensor, rope: Table | None) -> KeysValues:
        return self._heads(_normed(self.to_k(x_BND), self.norm_k), rope), self._heads(self.to_v(x_BND), None)

    def attend(self, q_BhND: Tensor, kv: KeysValues) -> Tensor:
        out = F.scaled_dot_product_attention(q_BhND, *kv)
        return self.to_out[0](out.transpose(1, 2).flatten(-2))

    def _heads(self, x_BND: Tensor, rope: Table | None) -> Tensor:
        x = x_BND.unflatten(-1, (self.heads, -1))
        return (apply_rope(x, rope) if rope is not None else x).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, GELU(tanh), linear; module names are those of the released checkpoints."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        first = nn.Module()
        first.proj = nn.Linear(width, hidden)
        self.net = nn.ModuleList([first, nn.Identity(), nn.Linear(hidden, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](F.gelu(self.net[0].proj(x), approximate="tanh"))


class Block(nn.Module):
    """Modulated self-attention, text cross-attention for noisy tokens only, modulated feed-forward."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.eps = config.eps
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 6, config.width))
        self.attn1 = Attention(config)
        self.ffn = FeedForward(config.width, config.ffn_dim)
        if config.text_dim:
            self.attn2 = Attention(config)
            self.norm2 = nn.LayerNorm(config.width, eps=config.eps)

    def forward(
        self,
        x_BND: Tensor,
        modulation: Modulation,
        rope: Table,
        past: KeysValues | None = None,
        text_BLD: Tensor | None = None,
        noisy: int = 0,
    ) -> tuple[Tensor, KeysValues]:
        """Args:
            past: keys and values of tokens that are attended to and not changed here.
            text_BLD, noisy: text tokens and how many tokens, counted from the end, see them.
        Returns:
            the tokens, and their keys and values.
        """
        rows = self.scale_shift_table[:, None].float() + modulation.rows_BRKD.float()
        spread = rows if len(modulation.tokens) == 1 else _spread(rows, modulation.tokens)
        shift1, scale1, gate1, shift2, scale2, gate2 = spread.unbind(2)
        u = modulate(x_BND, shift1, scale1, self.eps)
        kv = self.attn1.keys_values(u, rope)
        seen = kv if past is None else tuple(torch.cat(pair, dim=2) for pair in zip(past, kv, strict=True))
        x_BND = gated(x_BND, self.attn1.attend(self.attn1.queries(u, rope), seen), gate1)
        if text_BLD is not None:
            x_BND = self._read_text(x_BND, text_BLD, noisy)
        return gated(x_BND, self.ffn(modulate(x_BND, shift2, scale2, self.eps)), gate2), kv

    def _read_text(self, x_BND: Tensor, text_BLD: Tensor, noisy: int) -> Tensor:
        """Guidance cross-attention: history is left out, lest text pile up in it over the chunks."""
        past, x = x_BND.split((x_BND.shape[1] - noisy, noisy), dim=1)
        q = self.attn2.queries(self.norm2(x.float()).to(x.dtype), None)
        return torch.cat([past, x + self.attn2.attend(q, self.attn2.keys_values(text_BLD, None))], dim=1)


def modulate(x_BND: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm without weights in float32, then scale and shift; the result has the dtype of x."""
    normed = F.layer_norm(x_BND.float(), x_BND.shape[-1:], eps=eps)
    return (normed * (1 + scale) + shift).to(x_BND.dtype)


def gated(x_BND: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """x + update * gate in float32; the result has the dtype of x."""
    return (x_BND.float() + update.float() * gate).to(x_BND.dtype)


def _normed(x_BND: Tensor, norm: nn.RMSNorm) -> Tensor:
    """RMSNorm in float32; the result has the dtype of x."""
    return F.rms_norm(x_BND.float(), norm.normalized_shape, norm.weight.float(), norm.eps).to(x_BND.dtype)


def _spread(rows_BRKD: Tensor, tokens: tuple[int, ...]) -> Tensor:
    """One row per token: (B, N, K, D)."""
    counts = torch.tensor(tokens, device=rows_BRKD.device)
    return rows_BRKD.repeat_interleave(counts, dim=1, output_size=sum(tokens))
