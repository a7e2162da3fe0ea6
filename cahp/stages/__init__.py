"""One deep function each; none knows another, and they meet in ``cahp.values``."""

from cahp.stages.clustering import CLUSTERS_REVISION, cluster, with_degree
from cahp.stages.replacement import Replaceability
from cahp.stages.selection import layer_minimum, round_evenly, select, top
from cahp.stages.similarity import attend, join_words, nearest_heads, read_tokens

__all__ = [
    "CLUSTERS_REVISION",
    "Replaceability",
    "attend",
    "cluster",
    "join_words",
    "layer_minimum",
    "nearest_heads",
    "read_tokens",
    "round_evenly",
    "select",
    "top",
    "with_degree",
]
