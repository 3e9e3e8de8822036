"""A llama transformer in PyTorch: what llama.cpp computes, small enough to train on one CPU thread.

Its GGUF file, with tokenizer and chat template, is what this module alone imports gguf for (extra:
distill). B texts, T tokens, V vocabulary, D width, H heads of d = D / H, K key-value heads, F
feed-forward.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rudder.cli.whole_file import whole
from rudder.learn.vocabulary import Vocabulary

INIT_STD = 0.08


@dataclass(frozen=True, kw_only=True)
class LlamaShape:
    """Sizes of a llama model; the head is tied to the embedding. context: tokens it learnt on."""

    dim: int
    layers: int
    heads: int
    kv_heads: int
    ff: int
    context: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5


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
    """Attention and a SwiGLU feed-forward, each on a normed copy of the stream.

    Names, order and shapes of the weights are GGUF's: a [m, n] weight maps n inputs to m.
    """

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape, kv = shape, shape.kv_heads * shape.dim // shape.heads
        self.attn_norm = nn.RMSNorm(shape.dim, shape.norm_eps)
        self.attn_q = nn.Linear(shape.dim, shape.dim, bias=False)
        self.attn_k = nn.Linear(shape.dim, kv, bias=False)
        self.attn_v = nn.Linear(shape.dim, kv, bias=False)
        self.attn_output = nn.Linear(shape.dim, shape.dim, bias=False)
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


def write_gguf(
    path: Path,
    model: Transformer,
    vocabulary: Vocabulary,
    *,
    chat_template: str | None,
    kind: str = "F16",
    architecture: str = "llama",
) -> None:
    """Write a model; the bytes depend on the arguments alone. The file appears when it is whole.

    kind: F32, F16 or Q8_0 (rows must then be divisible by 32), of all weights but norms.
    """
    import gguf

    shape, kinds = model.shape, gguf.GGMLQuantizationType
    with whole(path) as partial:
        writer = gguf.GGUFWriter(partial, architecture)
        writer.add_name("rudder-embedded")
        writer.add_context_length(shape.context)
        writer.add_embedding_length(shape.dim)
        writer.add_block_count(shape.layers)
        writer.add_feed_forward_length(shape.ff)
        writer.add_head_count(shape.heads)
        writer.add_head_count_kv(shape.kv_heads)
        writer.add_rope_dimension_count(shape.dim // shape.heads)
        writer.add_rope_freq_base(shape.rope_theta)
        writer.add_layer_norm_rms_eps(shape.norm_eps)
        vocabulary.describe(writer)
        if chat_template is not None:
            writer.add_chat_template(chat_template)
        for key, tensor in model.state_dict().items():
            form = kinds[kind] if tensor.ndim == 2 else kinds.F32
            weight = gguf.quants.quantize(tensor.numpy(), form)
            writer.add_tensor(key, weight, raw_dtype=form)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
