"""Where each architecture keeps its heads: one row a family, nothing else knows module names.

A new architecture is a new row when its attention calls transformers' attention interface and projects its heads
with separate query, key and value layers. ``tests/parity`` runs every row on a tiny random model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Module paths of one architecture.

    ``layers`` starts at the base model (the network without its head), the others at a layer: ``attention`` is the
    module that calls the attention interface, ``query``, ``key``, ``value`` and ``output`` its projections,
    ``feed_in`` and ``feed_out`` the two projections of the feed-forward block. What enters ``feed_in`` is also what
    is added to what leaves ``feed_out`` (normalisation comes after the sum). ``heads_key`` and the like name the
    entries of ``config.json``.
    """

    layers: str
    attention: str
    query: str
    key: str
    value: str
    output: str
    feed_in: str
    feed_out: str
    heads_key: str = "num_attention_heads"
    layers_key: str = "num_hidden_layers"
    hidden_key: str = "hidden_size"


_BERT = Family(
    layers="encoder.layer",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    feed_in="intermediate.dense",
    feed_out="output.dense",
)

#: ``model_type`` of a configuration -> where its heads are.
FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": Family(
        layers="transformer.layer",
        attention="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        feed_in="ffn.lin1",
        feed_out="ffn.lin2",
        heads_key="n_heads",
        layers_key="n_layers",
        hidden_key="dim",
    ),
}
