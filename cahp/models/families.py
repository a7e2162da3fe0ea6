"""The heads of an architecture (module paths, sizes, special cases), and the architectures known by name.

Most architectures have no row here: ``cahp.models.matching`` makes a ``Family`` from their structure. A row is for what
the structure does not show, or saves time. ``tests/parity`` runs every row and every matched type on a tiny random
model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

#: The projection whose inputs a tap gets: a layer's output projection (of the gated context vectors of its heads), or
#: the first or second projection of its feed-forward block.
Site = Literal["output", "feed_in", "feed_out"]
#: The meaning of a size attribute of an attention module.
Size = Literal["heads", "units", "channels"]
#: The place of the normalisation in a layer: after each sum (``post``), before each block (``pre``), or before two
#: blocks with the same input whose outputs are added at once (``parallel``).
Residual = Literal["post", "pre", "parallel"]


@dataclass(frozen=True)
class Rows:
    """The order of a projection's output channels.

    A block for each of ``parts``, ordered by head, in which a head has so many times its size (more than one for
    queries that share keys and values); then ``shared`` times a head's size that belong to all heads.
    """

    parts: tuple[int, ...] = (1,)
    shared: int = 0


@dataclass(frozen=True)
class Family:
    """Module paths and special cases of an architecture.

    ``layers`` starts at the base model (the network without its head), the others at a layer. ``attention`` is the
    module that computes the attention weights. ``inputs`` are the projections whose *output* channels belong to heads,
    with their order (query, key and value in one matrix: three blocks, each ordered by head; a fused matrix that is
    ordered by head first: one block). ``output`` is the projection whose *input* channels belong to heads, ``feed_out``
    the second projection of the feed-forward block (None: not known; a refit then solves only ``output``). If
    normalisation comes after the sum, the input of ``feed_in`` is added to the output of ``feed_out``.
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
    #: The place of the normalisation, or an entry of the configuration with the places if it is true and if false.
    residual: Residual | tuple[str, Residual, Residual] = "post"
    #: Attention is computed by a function that can be replaced by ours; otherwise see ``weights``.
    interface: bool = True
    #: Without that interface: the dropout module of the attention weights, below ``attention``. Without either, only
    #: the weights that the network returns are known, and cannot be edited.
    weights: str | None = None
    #: Attributes of the attention module with its number of query heads, of units that are cut, or of channels.
    sizes: Mapping[str, Size] = field(default_factory=dict)
    #: An argument of the attention module with one plane of scores for each head.
    planes: str | None = None
    #: Queries, keys or a bias on scores are computed for all heads, and those of cut heads are then left out.
    selects: bool = False
    #: A path below each of ``layers`` with several layers, whose weights are used in many passes.
    shared: str | None = None
    #: Each layer has its own arguments (such as its attention window).
    own_arguments: bool = False
    #: A layer knows its own kind and does not look it up by its index.
    own_kind: bool = False
    #: Attention is causal.
    causal: bool = False
    #: It can cache keys and values for the next token.
    caches: bool = False
    #: Largest number of tokens with full attention (None: any).
    longest: int | None = None
    #: Entries of the configuration to change, which does not change an answer.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Positions are counted from the padding token's index, so there are fewer than in the configuration.
    offset_positions: bool = False
    heads_key: str = "num_attention_heads"
    #: The number of key-value groups, whose query heads are pruned together.
    groups_key: str | None = None
    layers_keys: tuple[str, ...] = ("num_hidden_layers",)
    hidden_key: str = "hidden_size"
    #: The description of the structure by which it was matched (None: known by name).
    matched: str | None = None
    #: The reason why heads can be masked but not cut out.
    no_cut: str | None = None
    #: Layers can be run one by one.
    walks: bool = True
    #: The first layers can be left out: the others need only their hidden states.
    tails: bool = True

    @property
    def refits(self) -> tuple[Site, ...]:
        """The projections that a refit solves."""
        return ("output",) if self.feed_out is None or not self.walks else ("output", "feed_out")

    @property
    def edits(self) -> bool:
        """Whether attention weights can be replaced while the network runs."""
        return self.interface or self.weights is not None

    def residual_of(self, config: Any) -> Residual:
        """The place of the normalisation in a model with this configuration."""
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

#: Families by the ``model_type`` of a configuration.
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

_APPROXIMATES = "approximates attention without weights between tokens, which are needed to compare heads"
#: Architectures that cannot be used, and why.
REFUSED: dict[str, str] = {
    **dict.fromkeys(
        ("beit", "clip", "convnext", "deit", "dinov2", "swin", "vit"),
        "reads images, and heads are compared on texts",
    ),
    **dict.fromkeys(("hubert", "wav2vec2", "whisper"), "reads sound, and heads are compared on texts"),
    **dict.fromkeys(("mamba", "mamba2", "rwkv"), "has no attention heads"),
    "canine": "reads characters and attends over groups of four of them, so its maps are not between tokens of a text",
    "convbert": "combines each head with a convolution, so the two cannot be told apart",
    "diffllama": "subtracts the maps of paired heads from each other, so no head works alone",
    "falcon": "computes queries, keys and values by special projections, in an order that depends on its configuration",
    "fnet": "mixes tokens by a Fourier transform and has no attention heads",
    "funnel": "shortens the text from block to block, so maps of its layers cannot be compared",
    "ibert": "computes in integers by special projections, whose heads cannot be cut out",
    "jetmoe": "selects the heads of every token among experts, so no head belongs to a layer",
    "led": "attends within windows and has no whole maps between tokens",
    "longformer": "attends within windows and has no whole maps between tokens",
    "mra": _APPROXIMATES,
    "nystromformer": _APPROXIMATES,
    "perceiver": "attends over its own latent vectors, so its maps are not between tokens of a text",
    "reformer": "attends within buckets of hashed tokens and has no whole maps between tokens",
    "squeezebert": "makes queries, keys and values by grouped convolutions, whose heads cannot be cut out",
    "xlnet": "keeps its heads in special tensors instead of projections",
    "yoso": _APPROXIMATES,
}

_BETWEEN = "its layers without attention"
#: Architectures that cannot be exported as ONNX, and why. Experts can: each of them then gets every token.
NO_ONNX: dict[str, str] = {
    "deepseek_v2": "it rotates queries and keys as complex numbers, which ONNX does not have",
    **dict.fromkeys(
        ("jamba", "minimax"), f"{_BETWEEN} process a text in pieces, and the file would be valid for one length only"
    ),
    # The first layer of a toy model takes two and a half minutes.
    **dict.fromkeys(
        ("qwen3_5_text", "qwen3_next"),
        f"{_BETWEEN} solve equations step by step, and the exporter to ONNX takes minutes to write one of them",
    ),
}
