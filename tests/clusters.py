"""Clusters of two layers of three heads that can be worked out by hand, and figures as they might be found."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.board.budget_sweep import Speed
from cahp.board.head_clusters import HeadClusters
from cahp.models.cards import ModelCard
from cahp.outcomes import Outcomes
from cahp.values import Estimate
from cahp.values.statistics import Clustering

#: What is known of the model.
CARD = ModelCard("by-hand", None, "bert", 2, 3, 4, 12, ("no", "yes"), "ab" * 32, "")


def on_a_line() -> HeadClusters:
    """Two layers of three heads on a line: 0 1 . 10 11 . 20 21, two or three clusters by hand."""
    places = np.array([0.0, 1.0, 10.0, 11.0, 20.0, 21.0], dtype=np.float32)
    distances = np.abs(places[:, None] - places[None])
    clustering = Clustering(
        np.array([2, 3]),
        np.array([0.5, 0.9]),
        np.array([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2]]),
        (np.array([1, 4]), np.array([0, 2, 4])),
        knee=3,
        knee_rule="polynomial-6",
    )
    salience = np.array([[0.1, 0.9, 0.2], [0.8, 0.3, 0.7]])
    return HeadClusters(clustering, salience, np.stack([places, places], axis=1), distances)


def arrays_of(clusters: HeadClusters) -> dict[str, NDArray[Any]]:
    """The arrays of a run with these clusters."""
    return {
        "ks": clusters.clustering.ks,
        "mss": clusters.clustering.mss,
        "labels_of_k": clusters.clustering.labels,
        "medoids_of_k": np.concatenate(clusters.clustering.medoids),
        "salience": clusters.salience.ravel(),
        "embedding": clusters.embedding,
        "distances": clusters.distances,
    }


def outcomes(accuracy: float, n: int = 100) -> Outcomes:
    """Outcomes of a pruned model, with an accuracy."""
    return {
        "accuracy": Estimate(accuracy, (accuracy - 0.05, accuracy + 0.05), n, "share"),
        "macro_f1": Estimate(accuracy, None, n, "share"),
        "nll": Estimate(0.5, None, n, "nats"),
        "agreement": Estimate(0.9, (0.8, 0.95), n, "share"),
        "accuracy_change": Estimate(0.0, (-1.0, 1.0), n, "points"),
    }


def speed(ratio: float) -> Speed:
    """A measured latency."""
    return Speed(ratio_of(ratio, ratio - 0.01, ratio + 0.01), 10.0, 10.0 * ratio)


def ratio_of(value: float, low: float, high: float) -> Estimate:
    """A ratio of times, over 40 rounds."""
    return Estimate(value, (low, high), 40, "ratio")


def in_a_row(layers: int, heads: int) -> HeadClusters:
    """A model of any size: its heads in a row in random order, and k clusters of neighbours for every k."""
    total = layers * heads
    places = np.random.default_rng(0).permutation(total)
    ks = np.arange(2, total)
    labels = places[None] * ks[:, None] // total
    medoids = tuple(np.unique(row, return_index=True)[1] for row in labels)
    mss = np.log(ks) / np.log(total)
    clustering = Clustering(ks, mss, labels, medoids, knee=int(ks[len(ks) // 4]), knee_rule="polynomial-6")
    salience = np.random.default_rng(1).random((layers, heads))
    at = places.astype(np.float32)
    return HeadClusters(clustering, salience, np.stack([at, at], axis=1), np.abs(at[:, None] - at[None]))
