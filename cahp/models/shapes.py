"""The shapes of attention modules: their projections, and the order of heads in the channels.

A row is a way to write attention, not a model: most model types of transformers fit one of them. A module must have
these names and consistent sizes; the loaded model proves the match.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: The order of channels in a projection for query, key and value: all queries, then all keys, then all values
#: (``stacked``; keys and values may have fewer heads), or head by head, each with all three (``by head``).
Order = Literal["stacked", "by head"]

#: Paths of the output projection, inside the module with the input projections or beside it (``^``).
OUTPUTS = ("o_proj", "out_proj", "dense", "Wo", "c_proj", "out_lin", "o", "^output.dense", "^output")


@dataclass(frozen=True)
class Shape:
    """One way to write attention.

    ``query``, ``key`` and ``value`` are the names of projections whose output channels belong to heads; a fused
    projection is named for each. ``words`` describe the shape.
    """

    words: str
    query: str
    key: str
    value: str
    order: Order | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The projections, each once."""
        return tuple(dict.fromkeys((self.query, self.key, self.value)))


def _apart(query: str, key: str, value: str) -> Shape:
    return Shape("queries, keys and values apart", query, key, value)


def _fused(name: str, order: Order) -> Shape:
    return Shape(f"queries, keys and values in one matrix, {order}", name, name, name, order)


def _latent(query: str) -> Shape:
    return Shape("latent attention: keys and values from one compressed vector", query, "kv_b_proj", "kv_b_proj")


#: In this order; the first match counts.
SHAPES: tuple[Shape, ...] = (
    _latent("q_gate_proj"),
    _latent("q_b_proj"),
    _latent("q_proj"),
    _apart("q_proj", "k_proj", "v_proj"),
    _apart("query", "key", "value"),
    _apart("query_proj", "key_proj", "value_proj"),
    _apart("q_lin", "k_lin", "v_lin"),
    _apart("Wq", "Wk", "Wv"),
    _apart("q", "k", "v"),
    _fused("qkv_proj", "stacked"),
    _fused("Wqkv", "stacked"),
    _fused("c_attn", "stacked"),
    _fused("query_key_value", "by head"),
    _fused("in_proj", "by head"),
)

#: Other projections inside attention whose output channels belong to heads: positions, entities, gates.
BESIDE = (
    "pos_key_proj",
    "pos_query_proj",
    "pos_proj",
    "pos_q_proj",
    "w2e_query",
    "e2w_query",
    "e2e_query",
    "gate_proj",
    "g_proj",
)
#: Weights and projections inside attention that all heads share.
SHARED = ("q_a_proj", "kv_a_proj_with_mqa", "indexer", "relative_attention_bias")
#: Vectors of attention modules that have an entry, or a stretch of entries, for each head.
VECTORS = ("sinks", "q_bias", "v_bias")

#: Attributes of attention modules with their numbers of query heads, of key-value heads, and of channels.
HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
GROUPS = ("num_key_value_heads", "kv_heads")
CHANNELS = ("all_head_size", "split_size", "inner_dim", "hidden_size", "embed_dim")
#: Number of query heads that share a key-value head: it changes if all heads share one.
SHARING = ("num_key_value_groups",)

#: Arguments of attention modules that hold a plane of scores for each head.
PLANES = ("position_bias", "alibi")

#: The second and the first projection of feed-forward blocks, seen from the layer.
FEEDS: tuple[tuple[str, str | None], ...] = (
    ("output.dense", "intermediate.dense"),
    ("fc2", "fc1"),
    ("ffn.lin2", "ffn.lin1"),
    ("mlp.down_proj", "mlp.up_proj"),
    ("mlp.c_proj", "mlp.c_fc"),
    ("mlp.fc2", "mlp.fc1"),
    ("mlp.fc_out", "mlp.fc_in"),
    ("mlp.dense_4h_to_h", "mlp.dense_h_to_4h"),
    ("mlp.Wo", "mlp.Wi"),
    ("ffn.down_proj", "ffn.up_proj"),
    ("layer.1.DenseReluDense.wo", None),
    ("ffn.2", "ffn.0"),
)

#: Parts of a network whose heads are not used: for other inputs than text, for decoding, or without attention weights.
ELSEWHERE = (
    "mamba",
    "linear_attn",
    "vision",
    "visual",
    "encoder_attn",
    "cross_attn",
    "crossattention",
    "EncDecAttention",
)
