"""A llama transformer in PyTorch: what llama.cpp computes, small enough to train on one CPU thread.

B texts, T tokens, V vocabulary, D width, H heads of d = D / H, K key-value heads, F feed-forward.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rudder.agent.gguf_file import LlamaShape

INIT_STD = 0.08


def rotations(length: int, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin [length, width / 2] of rotary position embedding (Su et al. 2021)."""
    speeds = theta ** (-torch.arange(0, width, 2).float() / width)
    angles = torch.arange(length).float()[:, None] * speeds
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate adjacent pairs of x [B, heads, T, d], as llama.cpp does for llama."""
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1)
    return turned.flatten(-2)


class Block(nn.Module):
    """Attention and a SwiGLU feed-forward, each on a normed copy of the stream."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape, head = shape, shape.dim // shape.heads
        self.attn_norm = nn.RMSNorm(shape.dim, shape.norm_eps)
        self.attn_q = nn.Linear(shape.dim, shape.heads * head, bias=False)
        self.attn_k = nn.Linear(shape.dim, shape.kv_heads * head, bias=False)
        self.attn_v = nn.Linear(shape.dim, shape.kv_heads * head, bias=False)
        self.attn_output = nn.Linear(shape.heads * head, shape.dim, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.dim, shape.norm_eps)
        self.ffn_gate = nn.Linear(shape.dim, shape.ff, bias=False)
        self.ffn_up = nn.Linear(shape.dim, shape.ff, bias=False)
        self.ffn_down = nn.Linear(shape.ff, shape.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shape = self.shape
        h = self.attn_norm(x)  # [B, T, D]
        size = (*h.shape[:2], -1, shape.dim // shape.heads)
        q = rotate(self.attn_q(h).view(size).transpose(1, 2), cos, sin)  # [B, H, T, d]
        k = rotate(self.attn_k(h).view(size).transpose(1, 2), cos, sin)  # [B, K, T, d]
        v = self.attn_v(h).view(size).transpose(1, 2)
        repeats = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(attended.transpose(1, 2).flatten(2))
        h = self.ffn_norm(x)
        down: Tensor = self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + down


class Transformer(nn.Module):
    """Next-token logits; the head is the embedding, transposed."""

    def __init__(self, shape: LlamaShape, num_tokens: int) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(num_tokens, shape.dim)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.dim, shape.norm_eps)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=INIT_STD)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens int64 [B, T] -> the stream [B, T, D] that ``logits`` reads."""
        head = self.shape.dim // self.shape.heads
        cos, sin = rotations(tokens.shape[1], head, self.shape.rope_theta)
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, cos, sin)
        normed: Tensor = self.output_norm(x)
        return normed

    def logits(self, x: Tensor) -> Tensor:
        """Stream [.., D] -> logits [.., V]."""
        return x @ self.token_embd.weight.T

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """By GGUF's names (see ``gguf_file.weight_shapes``)."""
        return {name: tensor.numpy().copy() for name, tensor in self.state_dict().items()}
