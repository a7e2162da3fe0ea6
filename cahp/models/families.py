"""Where an architecture keeps its heads: paths, sizes and what is special, and the architectures known by name.

Most architectures need no row: they are matched by their shape (``cahp.models.matching``), which makes the same
``Family`` of what it finds. A row says what cannot be seen from outside, or saves the time to look. ``tests/parity``
runs every row, and every type that is matched, on a tiny random model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

#: Where a tap listens: what enters a layer's output projection (the heads' context vectors, gated), and what enters
#: the first and the second projection of its feed-forward block.
Site = Literal["output", "feed_in", "feed_out"]
#: What an attribute of an attention module counts.
Size = Literal["heads", "units", "channels"]
#: Where a layer normalises: after each sum (``post``), before each block (``pre``), or before two blocks that read the
#: same input and are added at once (``parallel``).
Residual = Literal["post", "pre", "parallel"]


@dataclass(frozen=True)
class Rows:
    """How the output channels of a projection are ordered.

    A block for each of ``parts``, itself ordered by head, where a head has that many times a head's size (queries that
    share keys and values: several); and at the end ``shared`` times a head's size that all heads share.
    """

    parts: tuple[int, ...] = (1,)
    shared: int = 0


@dataclass(frozen=True)
class Family:
    """Module paths of one architecture, and what is special about it.

    ``layers`` starts at the base model (the network without its head), the others at a layer. ``attention`` is the
    module that computes the attention weights. ``inputs`` are the projections whose *output* channels belong to heads,
    with their order (query, key and value in one matrix: three blocks, each ordered by head; a fused matrix that is
    ordered by head first counts as one block). ``output`` is the projection whose *input* channels belong to heads,
    ``feed_out`` the second projection of the feed-forward block (None: not known, then a refit solves ``output``
    alone); what enters ``feed_in`` is added to what leaves ``feed_out`` where normalisation comes after the sum.
    """

    layers: str
    attention: str
    inputs: Mapping[str, Rows]
    output: str
    feed_out: str | None = None
    feed_in: str | None = None
    #: Projections like ``inputs`` that only some configurations have.
    extra_inputs: tuple[str, ...] = ()
    #: Parameters with one entry, or one stretch of entries, for each head.
    vectors: tuple[str, ...] = ()
    #: Where normalisation comes, or an entry of the configuration and what it means when true and when false.
    residual: Residual | tuple[str, Residual, Residual] = "post"
    #: Attention weights come from a function that can be exchanged for ours; else from ``weights`` or what is returned.
    interface: bool = True
    #: The dropout that attention weights pass, below ``attention``, where there is no attention interface. Without
    #: either, weights are those that the network returns, and cannot be edited.
    weights: str | None = None
    #: Attributes of the attention module that count its query heads, the units that are cut, or their channels.
    sizes: Mapping[str, Size] = field(default_factory=dict)
    #: An argument of the attention module that holds one plane of scores a head.
    planes: str | None = None
    #: Queries, keys or a bias on scores are made for all heads, and those of cut heads are left out before they meet.
    selects: bool = False
    #: A path below each of ``layers`` that holds several layers, whose weights are used in many passes.
    shared: str | None = None
    #: Each layer is called with arguments of its own (such as the reach of its attention).
    own_arguments: bool = False
    #: Where layers are of several kinds, each knows its own and is not told it by its place in the network.
    own_kind: bool = False
    #: It looks back only.
    causal: bool = False
    #: It would keep keys and values for a next token.
    caches: bool = False
    #: Tokens up to which a text is attended to as a whole (None: always).
    longest: int | None = None
    #: Entries of the configuration that differ here from what is stored, without changing an answer.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Positions are counted from the padding token's index, so fewer are there than the configuration says.
    offset_positions: bool = False
    heads_key: str = "num_attention_heads"
    #: Key-value groups: heads that share keys and values stay or go together.
    groups_key: str | None = None
    layers_keys: tuple[str, ...] = ("num_hidden_layers",)
    hidden_key: str = "hidden_size"
    #: What was recognised, for people, where it was matched by its shape.
    matched: str | None = None
    #: Why heads can be masked and not cut out.
    no_cut: str | None = None
    #: Layers can be run one by one.
    walks: bool = True
    #: The first layers can be left out: none of the others takes more from them than hidden states.
    tails: bool = True

    @property
    def refits(self) -> tuple[Site, ...]:
        """The projections that a refit solves anew."""
        return ("output",) if self.feed_out is None or not self.walks else ("output", "feed_out")

    @property
    def edits(self) -> bool:
        """Whether attention weights can be replaced by others while the network runs."""
        return self.interface or self.weights is not None

    def residual_of(self, config: Any) -> Residual:
        """Where a model of this configuration normalises."""
        if isinstance(self.residual, str):
            return self.residual
        entry, if_true, if_false = self.residual
        return if_true if getattr(config, entry) else if_false


def _separate(prefix: str, *names: str) -> dict[str, Rows]:
    return {f"{prefix}.{name}": Rows() for name in names}


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
        interface=False,
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
        inputs={"attn.c_attn": Rows((1, 1, 1))},
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
        inputs={"attention.query_key_value": Rows()},
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
        inputs={"attn.Wqkv": Rows((1, 1, 1))},
        output="attn.Wo",
        feed_out="mlp.Wo",
        residual="pre",
        own_arguments=True,
        own_kind=True,
    ),
    "mpnet": Family(
        layers="encoder.layer",
        attention="attention.attn",
        inputs=_separate("attention.attn", "q", "k", "v"),
        output="attention.attn.o",
        feed_in="intermediate.dense",
        feed_out="output.dense",
        interface=False,
        weights="dropout",
        sizes={"num_attention_heads": "heads", "all_head_size": "channels"},
        planes="position_bias",
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

_APPROXIMATES = "computes attention by an approximation without weights between tokens, by which heads are told apart"
#: Architectures that have heads or something like them and cannot be used here, and why.
REFUSED: dict[str, str] = {
    **dict.fromkeys(
        ("beit", "clip", "convnext", "deit", "dinov2", "swin", "vit"),
        "reads images, and heads are compared on texts here",
    ),
    **dict.fromkeys(("hubert", "wav2vec2", "whisper"), "reads sound, and heads are compared on texts here"),
    **dict.fromkeys(("mamba", "mamba2", "rwkv"), "has no attention heads"),
    "canine": "reads characters and attends over groups of four of them, so its maps are not between tokens of a text",
    "convbert": "joins each head with a convolution of its own, so no head can be told from what the convolution says",
    "diffllama": "subtracts the maps of paired heads from each other, so no head says anything of its own",
    "falcon": "makes queries, keys and values by projections of its own, in an order that its configuration decides",
    "fnet": "mixes tokens by a Fourier transform and has no attention heads",
    "funnel": "shortens the text from block to block, so maps of its layers cannot be compared",
    "ibert": "computes in whole numbers by projections of its own, whose heads cannot be cut out truly",
    "jetmoe": "chooses the heads of every token among experts, so no head belongs to a layer",
    "led": "attends within windows and has no whole maps between tokens",
    "longformer": "attends within windows and has no whole maps between tokens",
    "mra": _APPROXIMATES,
    "nystromformer": _APPROXIMATES,
    "perceiver": "attends over its own latent vectors, so its maps are not between tokens of a text",
    "reformer": "attends within buckets of hashed tokens and has no whole maps between tokens",
    "squeezebert": "makes queries, keys and values by grouped convolutions, whose heads cannot be cut out truly",
    "xlnet": "keeps its heads in tensors of their own instead of projections, which are not known here",
    "yoso": _APPROXIMATES,
}

_BETWEEN = "its layers without attention"
#: Architectures that cannot be written as ONNX, and why. Experts can: every one of them sees every token then.
NO_ONNX: dict[str, str] = {
    "deepseek_v2": "it turns queries and keys as complex numbers, which ONNX does not know",
    **dict.fromkeys(
        ("jamba", "minimax"), f"{_BETWEEN} go through a text in pieces, and the file would be true for one length alone"
    ),
    # Of a toy with two layers the first takes two minutes and a half.
    **dict.fromkeys(
        ("qwen3_5_text", "qwen3_next"),
        f"{_BETWEEN} solve equations step by step, and the exporter to ONNX takes minutes to write one of them",
    ),
}
