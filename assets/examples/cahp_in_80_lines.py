"""The whole method from top to bottom: from texts to a smaller model with almost the same predictions.

CAHP (arXiv 2606.19150) describes each attention head by how its attention separates the classes of a task, clusters
heads that do so alike, and keeps the most salient head of each cluster. Run it in a few minutes, offline:

    python assets/examples/cahp_in_80_lines.py 20

``cahp.prune("minilm-bbc", budget=20)`` keeps the same heads, and also caches, times, compares and explains.
"""

import sys

import numpy as np

import cahp
from cahp import data
from cahp.models.head_model import HeadModel
from cahp.outcomes import measure
from cahp.run.settings import Settings
from cahp.stages.clustering import cluster, space
from cahp.stages.evaluation import evaluate
from cahp.stages.selection import select
from cahp.stages.signatures import Collector, collect, examples_used, gate_gradients, salience
from cahp.tasks.texts import Texts
from cahp.values import HeadMask


def read_texts(settings: Settings, model: HeadModel) -> tuple[Texts, Texts]:
    """Read the texts on which heads are chosen, and those on which they are evaluated."""
    dataset = data.match(data.load(str(settings.data)), model.card.labels)
    chosen_on, _ = data.sample(dataset.split("train"), settings.limit, how="stratified", seed=settings.seed)
    evaluated_on, _ = data.sample(
        dataset.split("validation"), settings.eval_limit, how="stratified", seed=settings.seed
    )
    return chosen_on, evaluated_on


def choose_heads(model: HeadModel, texts: Texts, settings: Settings, budget: int | None) -> HeadMask:
    """Choose the heads to keep: as many as the budget says, or (None) as the silhouette curve suggests."""
    # 1. Signatures: the mean and variance of each head's attention map over the texts of each class. The first quarter
    #    of the texts also gives the gradients of the loss by a gate on each head.
    collector = Collector(model, classes=len(texts.classes), pool_size=settings.pool_size)
    gradients = gate_gradients(model, texts, watch=collector.watch)
    rest = np.arange(examples_used(texts), len(texts))
    signatures = collect(model, texts, rows=rest, into=collector)

    # 2. Distances: how well each cell of the map separates each pair of classes are the features of a head, and t-SNE
    #    places heads with similar features near each other.
    heads_in_space = space(signatures, projection=settings.projection, seed=settings.seed)

    # 3. Clusters for every number of clusters, and the knee of their silhouette curve.
    clustering = cluster(heads_in_space, seed=settings.seed, degree=settings.poly_degree)

    # 4. Mask: the most salient head of each cluster, and at least one head in every layer.
    importance = salience(gradients, how=settings.salience)
    selection = select(clustering, importance, budget=budget, min_per_layer=settings.min_per_layer)
    return selection.mask


def main(budget: int | None, settings: Settings | None = None) -> HeadMask:
    """Prune a model, and print what that changes."""
    settings = settings or Settings(model="minilm-bbc", data="bbc-news")
    model = cahp.load(settings.model, device="cpu")
    chosen_on, evaluated_on = read_texts(settings, model)
    mask = choose_heads(model, chosen_on, settings, budget)

    # 5. Cut the other heads out of the weights, and compare the predictions of both models on other texts.
    pruned = cahp.cut(model, mask)
    full = evaluate(model, evaluated_on)
    outcomes = measure(evaluate(pruned, evaluated_on), full=full, seed=settings.seed)
    print(f"{mask.count} of {mask.keep.size} heads kept: {mask.by_layer}")
    print(f"accuracy {measure(full)['accuracy']} -> {outcomes['accuracy']}; agreement {outcomes['agreement']}")
    return mask


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
