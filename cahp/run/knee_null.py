"""Where the published rule stops on unstructured data: the knees of the same heads with permuted features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cahp.head_statistics import Space
from cahp.stages.clustering import COMPLETE, cluster
from cahp.stages.space import place
from cahp.values import Progress, silent

#: Number of permutations, and of more heads than ``_MANY_HEADS``, where each takes several seconds.
_DRAWS, _FEW_DRAWS = 20, 5
_MANY_HEADS = 200


@dataclass(frozen=True)
class KneeNull:
    """The lowest and the highest knee over ``draws`` permutations of the features."""

    low: int
    high: int
    draws: int


def knee_null(space: Space, *, seed: int = 42, degree: int = 6, progress: Progress = silent) -> KneeNull | None:
    """Apply the published rule to permuted features (None: no permutation has a knee, or there are too many heads).

    Each cell of the features is permuted across heads on its own. That keeps its values and removes all structure.
    """
    if len(space.features) > COMPLETE:
        return None
    random, knees = np.random.default_rng(seed), []
    draws = _FEW_DRAWS if len(space.features) > _MANY_HEADS else _DRAWS
    for draw in range(draws):
        progress("clustering", draw, draws)
        permuted = place(random.permuted(space.features, axis=0), space.projection, seed)
        knees.append(cluster(permuted, seed=seed, degree=degree).knee)
    progress("clustering", draws, draws)
    knees = [knee for knee in knees if knee]
    return KneeNull(min(knees), max(knees), draws) if knees else None
