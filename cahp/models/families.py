"""The heads of an architecture (module paths, sizes, special cases), and the architectures known by name.

Most architectures have no row here: ``cahp.models.matching`` makes a ``Family`` from their structure. A row is for
layers that are shared (ALBERT), or saves the time of the match (BERT and its kin). It needs a ``config.json`` with
BERT's names of sizes (``num_hidden_layers``, ``num_attention_heads``, ``hidden_size``).
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
#: The place of the normalisation in a layer: after each sum (``post``), or before each block (``pre``).
Residual = Literal["post", "pre"]


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
    #: Projections of heads that are kept whole where heads are cut, because a normalisation reads all of them.
    uncut: Mapping[str, Rows] = field(default_factory=dict)
    #: Other projections whose output channels belong to heads, such as those of positions.
    extra_inputs: tuple[str, ...] = ()
    #: Parameters with one entry, or one stretch of entries, for each head.
    vectors: tuple[str, ...] = ()
    residual: Residual = "post"
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
    #: The description of the structure by which it was matched (None: known by name).
    matched: str | None = None
    #: The reason why heads can be masked but not cut out.
    no_cut: str | None = None
    #: Where attention is fused, pooled maps are equal with and without whole maps.
    pools: bool = True
    #: Layers can be run one by one.
    walks: bool = True
    #: The first layers can be left out: the others need only their hidden states.
    tails: bool = True

    @property
    def refits(self) -> tuple[Site, ...]:
        """The projections that a refit solves."""
        if self.feed_out is None or not self.walks:
            return ("output",)
        return ("output", "feed_out")

    @property
    def edits(self) -> bool:
        """Whether attention weights can be replaced while the network runs."""
        return self.interface or self.weights is not None


#: Why an architecture below cannot be a plain checkpoint with fewer heads; others may derive the size of a head, too.
DERIVED_SIZE = (
    "its configuration does not state the size of a head, which is the width over the number of heads: fewer heads "
    "would be larger ones"
)

_BERT = Family(
    layers="encoder.layer",
    attention="attention.self",
    inputs={f"attention.self.{name}": Rows() for name in ("query", "key", "value")},
    output="attention.output.dense",
    feed_in="intermediate.dense",
    feed_out="output.dense",
)
#: Families by the ``model_type`` of a configuration.
FAMILIES: dict[str, Family] = {
    "albert": Family(
        layers="encoder.albert_layer_groups",
        shared="albert_layers",
        attention="attention",
        inputs={f"attention.{name}": Rows() for name in ("query", "key", "value")},
        output="attention.dense",
        feed_in="ffn",
        feed_out="ffn_output",
    ),
    **dict.fromkeys(("bert", "electra"), _BERT),
    **dict.fromkeys(("camembert", "roberta", "xlm-roberta"), replace(_BERT, offset_positions=True)),
}

_APPROXIMATES = "approximates attention without weights between tokens, which are needed to compare heads"
#: Architectures that cannot be used, and why.
REFUSED: dict[str, str] = {
    "canine": "reads characters and attends over groups of four of them, so its maps are not between tokens of a text",
    "codegen": "orders the channels of queries, keys and values by the four devices of its training, not by heads",
    "convbert": "combines each head with a convolution, so the two cannot be told apart",
    "diffllama": "subtracts the maps of paired heads from each other, so no head works alone",
    "falcon": "computes queries, keys and values by special projections, in an order that depends on its configuration",
    "fnet": "mixes tokens by a Fourier transform and has no attention heads",
    "funnel": "shortens the text from block to block, so maps of its layers cannot be compared",
    "ibert": "computes in integers by special projections, whose heads cannot be cut out",
    "jetmoe": "selects the heads of every token among experts, so no head belongs to a layer",
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
#: Language models that cannot be exported as ONNX with their cache, and why.
NO_ONNX_CACHE: dict[str, str] = {
    "mpt": "its position bias is cut to the length of the cache, which has to be fixed in an ONNX file",
}


def count_positions(config: Any) -> int | None:
    """Return how many tokens a configuration has positions for (None: any number); MPT's has a name of its own."""
    positions: int | None = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    return positions
