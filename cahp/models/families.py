"""Where each architecture keeps its heads: one row a family, nothing else knows module names.

A new architecture is a new row. ``tests/parity`` runs every row on a tiny random model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

#: Where a layer normalises: after each sum (``post``), before each block (``pre``), or before two blocks that read the
#: same input and are added at once (``parallel``).
Residual = Literal["post", "pre", "parallel"]


@dataclass(frozen=True)
class Family:
    """Module paths of one architecture, and what is special about it.

    ``layers`` starts at the base model (the network without its head), the others at a layer. ``attention`` is the
    module that computes the attention weights. ``inputs`` are the projections whose *output* channels belong to heads,
    with the number of blocks they stack (query, key and value in one matrix: 3, each block ordered by head; a fused
    matrix that is ordered by head first counts as one block). ``output`` is the projection whose *input* channels
    belong to heads, ``feed_out`` the second projection of the feed-forward block; what enters ``feed_in`` is what is
    added to what leaves ``feed_out`` where normalisation comes after the sum.
    """

    layers: str
    attention: str
    inputs: Mapping[str, int]
    output: str
    feed_out: str
    feed_in: str | None = None
    #: Projections like ``inputs`` that only some configurations have.
    extra_inputs: tuple[str, ...] = ()
    #: Where normalisation comes, or an entry of the configuration and what it means when true and when false.
    residual: Residual | tuple[str, Residual, Residual] = "post"
    #: The dropout that attention weights pass, below ``attention``, where there is no attention interface.
    weights: str | None = None
    #: Attributes of the attention module that count its heads or their channels.
    sizes: Mapping[str, Literal["heads", "channels"]] = field(default_factory=dict)
    #: A bias on attention scores, one plane a head, is computed once and handed to every layer.
    position_bias: bool = False
    #: A path below each of ``layers`` that holds several layers, whose weights are used in many passes.
    shared: str | None = None
    #: Each layer is called with arguments of its own (such as the reach of its attention).
    own_arguments: bool = False
    #: It looks back only.
    causal: bool = False
    #: It would keep keys and values for a next token.
    caches: bool = False
    #: Positions are counted from the padding token's index, so fewer are there than the configuration says.
    offset_positions: bool = False
    heads_key: str = "num_attention_heads"
    #: Key-value groups: heads that share keys and values stay or go together.
    groups_key: str | None = None
    layers_keys: tuple[str, ...] = ("num_hidden_layers",)
    hidden_key: str = "hidden_size"

    def residual_of(self, config: Any) -> Residual:
        """Where a model of this configuration normalises."""
        if isinstance(self.residual, str):
            return self.residual
        entry, if_true, if_false = self.residual
        return if_true if getattr(config, entry) else if_false

    @property
    def note(self) -> str:
        """What is special about its heads, for people."""
        notes = []
        if self.groups_key:
            notes.append("heads that share keys and values are one unit")
        if self.shared:
            notes.append("a layer used in many passes is one row, its maps are averaged over the passes; no refit")
        if self.causal:
            notes.append("looks back only")
        if self.layers.startswith("encoder.layers"):
            notes.append("the encoder's heads; the decoder keeps all of its own")
        return "; ".join(notes)


def _separate(prefix: str, *names: str) -> dict[str, int]:
    return {f"{prefix}.{name}": 1 for name in names}


_BERT = Family(
    layers="encoder.layer",
    attention="attention.self",
    inputs=_separate("attention.self", "query", "key", "value"),
    output="attention.output.dense",
    feed_in="intermediate.dense",
    feed_out="output.dense",
)
_ROBERTA = replace(_BERT, offset_positions=True)
_LLAMA = Family(
    layers="layers",
    attention="self_attn",
    inputs=_separate("self_attn", "q_proj", "k_proj", "v_proj"),
    output="self_attn.o_proj",
    feed_out="mlp.down_proj",
    residual="pre",
    causal=True,
    caches=True,
    groups_key="num_key_value_heads",
)

#: ``model_type`` of a configuration -> where its heads are.
FAMILIES: dict[str, Family] = {
    "albert": Family(
        layers="encoder.albert_layer_groups",
        shared="albert_layers",
        attention="attention",
        inputs=_separate("attention", "query", "key", "value"),
        output="attention.dense",
        feed_in="ffn",
        feed_out="ffn_output",
        layers_keys=("num_hidden_groups", "inner_group_num"),
    ),
    "bart": Family(
        layers="encoder.layers",
        attention="self_attn",
        inputs=_separate("self_attn", "q_proj", "k_proj", "v_proj"),
        output="self_attn.out_proj",
        feed_in="fc1",
        feed_out="fc2",
        caches=True,
        heads_key="encoder_attention_heads",
        layers_keys=("encoder_layers",),
        hidden_key="d_model",
    ),
    "bert": _BERT,
    "camembert": _ROBERTA,
    "deberta-v2": Family(
        layers="encoder.layer",
        attention="attention.self",
        inputs=_separate("attention.self", "query_proj", "key_proj", "value_proj"),
        extra_inputs=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
        output="attention.output.dense",
        feed_in="intermediate.dense",
        feed_out="output.dense",
        weights="dropout",
        sizes={"num_attention_heads": "heads", "all_head_size": "channels"},
    ),
    "distilbert": Family(
        layers="transformer.layer",
        attention="attention",
        inputs=_separate("attention", "q_lin", "k_lin", "v_lin"),
        output="attention.out_lin",
        feed_in="ffn.lin1",
        feed_out="ffn.lin2",
        heads_key="n_heads",
        layers_keys=("n_layers",),
        hidden_key="dim",
    ),
    "electra": _BERT,
    "gpt2": Family(
        layers="h",
        attention="attn",
        inputs={"attn.c_attn": 3},
        output="attn.c_proj",
        feed_out="mlp.c_proj",
        residual="pre",
        sizes={"num_heads": "heads", "split_size": "channels"},
        causal=True,
        caches=True,
        heads_key="n_head",
        layers_keys=("n_layer",),
        hidden_key="n_embd",
    ),
    "gpt_neox": Family(
        layers="layers",
        attention="attention",
        inputs={"attention.query_key_value": 1},
        output="attention.dense",
        feed_out="mlp.dense_4h_to_h",
        residual=("use_parallel_residual", "parallel", "pre"),
        causal=True,
        caches=True,
    ),
    "llama": _LLAMA,
    "modernbert": Family(
        layers="layers",
        attention="attn",
        inputs={"attn.Wqkv": 3},
        output="attn.Wo",
        feed_out="mlp.Wo",
        residual="pre",
        own_arguments=True,
    ),
    "mpnet": Family(
        layers="encoder.layer",
        attention="attention.attn",
        inputs=_separate("attention.attn", "q", "k", "v"),
        output="attention.attn.o",
        feed_in="intermediate.dense",
        feed_out="output.dense",
        weights="dropout",
        sizes={"num_attention_heads": "heads", "all_head_size": "channels"},
        position_bias=True,
        offset_positions=True,
    ),
    "opt": Family(
        layers="decoder.layers",
        attention="self_attn",
        inputs=_separate("self_attn", "q_proj", "k_proj", "v_proj"),
        output="self_attn.out_proj",
        feed_in="fc1",
        feed_out="fc2",
        residual=("do_layer_norm_before", "pre", "post"),
        sizes={"num_heads": "heads"},
        causal=True,
        caches=True,
    ),
    "qwen2": _LLAMA,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}

#: Architectures that people ask for and why they cannot be used here.
REFUSED: dict[str, str] = {
    **dict.fromkeys(
        ("beit", "clip", "convnext", "deit", "dinov2", "swin", "vit"),
        "reads images, and heads are compared on texts here",
    ),
    **dict.fromkeys(("hubert", "wav2vec2", "whisper"), "reads sound, and heads are compared on texts here"),
    **dict.fromkeys(("mamba", "mamba2", "rwkv"), "has no attention heads"),
}
