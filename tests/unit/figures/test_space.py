"""Where the heads lie."""

from __future__ import annotations

import numpy as np

from cahp.board.colourings import mark_clusters
from cahp.figures.run import space_figure
from cahp.run.settings import Settings
from cahp.values import HeadMask

#: Five heads of three clusters; of the largest, head 2 is the most salient.
LABELS = np.array([0, 0, 0, 1, 2, 1])
PLANE = np.arange(12.0, dtype=np.float32).reshape(6, 2)
SALIENCE = np.array([[0.1, 0.2, 0.9], [0.3, 0.5, 0.4]])
MASK = HeadMask.of([2, 4], 2, 3)


def test_kept_and_pruned_heads_lie_where_they_are_and_the_most_salient_are_ringed() -> None:
    settings = Settings(projection="pca")
    # The cluster of head 5 is framed.
    figure = space_figure(PLANE, SALIENCE, mark_clusters(LABELS), MASK, settings, lit=5, unit="group", dark=False)
    kept, pruned, lit, *legend, best = figure.data
    assert (list(kept.customdata), list(kept.x), list(kept.y)) == ([2, 4], [4, 8], [5, 9])
    assert (list(pruned.customdata), pruned.marker.symbol) == ([0, 1, 3, 5], "circle")
    assert kept.hovertext[0].startswith("layer 0, group 2<br>kept, cluster A<br>")
    assert list(lit.x) == [6, 10]
    assert [trace.name for trace in legend] == ["kept", "pruned"]
    assert sorted(best.x) == [4, 8, 10]
    assert figure.layout.xaxis.title.text == "PCA 1 (no unit)"
