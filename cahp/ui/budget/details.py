"""The tabs below the board: where the heads lie, the replacement of a head, and the changed predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cahp.figures.head_grid import head_name, places
from cahp.figures.similarity import attention_figure
from cahp.figures.space import space_figure
from cahp.run.bench import Bench
from cahp.stages.replacement import Replaceability
from cahp.stages.similarity import Attention, attend
from cahp.ui.frame.page import link
from cahp.ui.frame.running import measure, offer_again, show_in_row
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with, plain, problem
from cahp.ui.parts.inputs import examples_of, load_examples
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import FLIPS, REPLACEABILITY, Kind, pass_seconds
from cahp.values import HeadMask, digest
from cahp.values.statistics import called
from cahp.words import capital, duration, percent

#: The attention of all heads on an example text.
ATTENTION: Kind[tuple[Bench, str], Attention] = Kind(
    lambda subject, _: attend(subject[0].model, subject[1]),
    lambda subject: f"attention-{subject[0].card.sha256[:12]}-{digest(subject[1])[:12]}",
    newest=True,
)


#: The distance of two heads: by how they separate two classes, or without classes by their mean maps.
_SEPARATION = r"BD=\frac{(\mu_a-\mu_b)^2}{4(v_a+v_b)}+\frac12\ln\frac{v_a+v_b}{2\sqrt{v_av_b}},\quad JM=2(1-e^{-BD})"
_HELLINGER = r"d(h,g)=\sqrt{\textstyle\sum_i\left(\sqrt{\mu^{(h)}_i}-\sqrt{\mu^{(g)}_i}\right)^2}"


def draw_space(explorer: Explorer) -> None:
    """Draw all heads in the plane in which they are clustered, coloured by cluster."""
    clusters = explorer.clusters
    assert clusters is not None
    labels = explorer.board.labels
    mask = explorer.mask
    settings = explorer.settings
    dark = display.is_dark()
    head = explorer.selected
    unit = explorer.card.unit
    lit = None
    if head is not None and head < len(labels):
        lit = int(labels[head])
    formula = _HELLINGER
    if explorer.card.task.predicts_labels:
        formula = _SEPARATION
    source = "distances in this plane"
    if settings.projection == "none":
        source = "all features, not from this plane"
    display.show(
        cache_with(
            clusters,
            ("space", mask.sha256, labels.tobytes(), settings.projection, lit, dark),
            lambda: space_figure(
                clusters.embedding, clusters.salience, labels, clusters.families, mask, settings, lit=lit, dark=dark
            ),
        ),
        title=f"{mask.count} kept {unit}s among {len(np.unique(labels))} clusters",
        help=f"Each point is a {unit}. Those that {explorer.card.words.likeness} lie close together. "
        "Letter: cluster. Colour: family of clusters, the same at every budget. Size: salience. Solid: kept; light: "
        "pruned; ring: the most salient head of its cluster. Crossed: a family that shares its colour with a larger "
        f"one. Framed: the cluster of the one clicked last. The clusters are computed from {source}.",
        formula=formula,
        name="space",
        data=lambda: {
            **places(clusters.layers, clusters.heads),
            **_replaceable(explorer),
            "x": clusters.embedding[:, 0].tolist(),
            "y": clusters.embedding[:, 1].tolist(),
            "cluster": clusters.names(labels),
            "salience": clusters.salience.ravel().tolist(),
            "kept": mask.keep.ravel().astype(int).tolist(),
        },
        on_pick=lambda head: setattr(explorer, "selected", head),
    )


def _replaceable(explorer: Explorer) -> dict[str, list[float]]:
    """The column of shares that other kept heads can reproduce, if they are measured."""
    shares = explorer.replaceable_shares
    if shares is None:
        return {}
    return {"reproduced by other kept heads": shares.ravel().tolist()}


def draw_replacement(explorer: Explorer) -> None:
    """Draw the head that was clicked last and the kept head nearest to it, with their attention maps on a sentence."""
    head = explorer.selected
    clusters = explorer.clusters
    unit = explorer.card.unit
    assert clusters is not None
    if head is None or head >= clusters.salience.size:
        # A plain click removes it.
        st.markdown(
            f"To see the replacement of a {unit}, set the switch “Click” below the slider to “replacement {unit}” and "
            f"choose a {unit}. With a keyboard, Shift-click or the key **i** does the same."
        )
        return
    labels = explorer.board.labels
    mask = explorer.mask
    cover, distance, same = clusters.nearest_kept(mask, head, labels)
    median = float(np.median(clusters.distances[np.triu_indices(len(labels), 1)]))
    names = clusters.names(labels)
    name = head_name(head, mask.heads, unit)
    replacement = head_name(cover, mask.heads, unit)
    if same:
        nearest = f"the nearest kept {unit} of its cluster is **{replacement}**"
    else:
        nearest = (
            f"no other {unit} of its cluster is kept, so the nearest kept {unit} is **{replacement}** of cluster "
            f"{names[cover]}"
        )
    state = "kept" if mask.keep.flat[head] else "pruned"
    others = int((labels == labels[head]).sum()) - 1
    st.markdown(
        f"**{capital(name)}** is {state} and belongs to cluster {names[head]} ({others} other "
        f"{unit}{'s' * (others != 1)}); {nearest}, at a distance of {distance:.1f}. The median distance of two {unit}s "
        f"is {median:.1f}."
    )
    _draw_replaceability(explorer, head)
    link("similarity", f"More about {name} →", view="head", head=called(head, mask.heads))
    examples = [*examples_of(explorer.bench, "single"), *load_examples("single")]
    texts = {example["name"]: example["text"] for example in examples}
    text = texts[st.selectbox("Sentence", list(texts), key="cover-sentence")]
    st.caption(plain(text))
    subject = (explorer.bench, text)
    attention = measure(explorer, ATTENTION, subject, name="attention", title="Running the sentence", polled=True)
    if attention is None:
        return
    maps = attention.by_head
    top = float(max(maps[head].max(), maps[cover].max()))
    left, right = st.columns(2)
    with left:
        _draw_attention(attention.tokens, maps[head], name, "chosen", top=top)
    with right:
        _draw_attention(attention.tokens, maps[cover], replacement, "replacement", top=top)


def _draw_attention(tokens: Sequence[str], weights: NDArray[np.float32], name: str, role: str, *, top: float) -> None:
    """Draw the attention of a head; ``top`` is the weight at the end of the scale."""
    display.show(
        attention_figure(tokens, weights, dark=display.is_dark(), top=top),
        title=f"{name.capitalize()} ({role})",
        help="Each row is a query token, each column a token it attends to; a row sums to 1. Heads that attend "
        "alike show the same pattern. Both maps share one scale.",
        name=f"cover-{role}",
        data={
            "looks": [token for token in tokens for _ in tokens],
            "looked at": list(tokens) * len(tokens),
            "attention": weights.ravel().tolist(),
        },
    )


def _draw_replaceability(explorer: Explorer, head: int) -> None:
    """Tell how much of a head the other kept heads of its layer can reproduce, once that is measured."""
    bench = explorer.bench
    job = explorer.work.job(REPLACEABILITY, bench)
    if job is None:
        if st.button("Measure what kept heads can replace", key="replaceability"):
            explorer.work.start(REPLACEABILITY, bench)
            st.rerun()
        about = duration(pass_seconds(bench, calibration=3, evaluation=0))
        st.caption(f"Runs the calibration texts forward and backward once (about {about}), without labels.")
    elif not job.ended:
        show_in_row(job, key="cancel-replaceability")
    elif job.result is None:
        offer_again(
            job, lambda: explorer.work.start(REPLACEABILITY, bench), key="replaceability-again", stopped="Stopped."
        )
    else:
        st.markdown(describe_replaceability(job.result, explorer.mask, head))
        st.caption(
            f"Linear, to second order, on {job.result.moments.tokens:,} calibration tokens; without an interval."
        )


def describe_replaceability(replaceability: Replaceability, mask: HeadMask, head: int) -> str:
    """Tell what the other kept heads of its layer can reproduce of a head, and which of them reproduce most."""
    share = float(replaceability.shares(mask).flat[head])
    layer, place = divmod(head, mask.heads)
    others = int(mask.keep[layer].sum()) - int(mask.keep[layer, place])
    if np.isnan(share):
        return "The head has no effect on the predictions, so nothing has to replace it."
    if not others:
        return "No other head of its layer is kept, so none can reproduce what it contributes."
    chosen, reached = replaceability.replacing(mask, head)
    named = f"head{'s' * (len(chosen) > 1)} {' and '.join(map(str, chosen))}"
    if others == len(chosen):
        return f"**{capital(named)} of this layer can reproduce {percent(share, 0)} of what it contributes.**"
    return (
        f"**{capital(named)} of this layer can reproduce {percent(reached, 0)} of what it contributes;** all {others} "
        f"other kept heads of the layer {percent(share, 0)}."
    )


def draw_flips(explorer: Explorer) -> None:
    """Draw the texts whose prediction changes under the mask, on request."""
    if explorer.awaits_distillation:
        st.caption("Distil this mask first (above).")
        return
    job = explorer.job(FLIPS)
    if job is None:
        st.markdown("Which predictions change under this mask?")
        if st.button("Show them", key="show-flips"):
            explorer.start(FLIPS)
            st.rerun()
    elif not job.ended:
        st.caption("Comparing predictions…")
    elif job.error:
        problem(job.error)
    elif job.result is not None:
        texts = explorer.bench.evaluation
        differ, total = job.result.counts
        finding = f"{differ:,} of {total:,} predictions changed"
        if texts.labelled:
            lost, won = job.result.right_alone
            finding += f": {lost} became wrong, {won} became right, {differ - lost - won} stayed wrong"
        st.markdown(f"**{finding}.**")
        if differ:
            table = job.result.table(texts, "all heads", "this mask", classes=explorer.bench.class_names)
            if texts.task.predicts_often:
                items = texts.task.words.items
                st.caption(f"The {items} in which the pruned model differs most from the full one (nats per token).")
            display.show_texts(table, key="flips")
            numbers = dict(table)
            if not texts.task.items_are_texts:
                # A part of a document stays in the session.
                numbers.pop("text")
            display.download_csv(numbers, "flips", file="changed-answers.csv")
