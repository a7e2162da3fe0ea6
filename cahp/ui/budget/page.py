"""What to keep: the budget board, and the questions that follow from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from cahp.export.masks import read_mask
from cahp.stages.clustering import DEGREES
from cahp.studies import budget_sweep as live
from cahp.studies.budget_sweep import BudgetTable, Quality
from cahp.ui.budget import covers
from cahp.ui.frame import address
from cahp.ui.frame import page as shell
from cahp.ui.frame.pages import link
from cahp.ui.frame.progress import STAGES
from cahp.ui.frame.run_button import need_run
from cahp.ui.parts import chart as charts
from cahp.ui.parts.budget_board import Event, Shown, budget_board
from cahp.ui.parts.text import plain
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.values import BudgetError, CahpError
from cahp.words import duration, percent, points, span

_GOAL, _ANSWER, _TROUBLE = "budget-goal", "budget-answer", "budget-trouble"

#: An interval as wide as that says little: whoever reads that nothing changed should know.
_WIDE_PP = 10.0

_PROJECTIONS = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "none (all features)"}
_SALIENCES = {"batch": "per batch (as published)", "example": "per example"}
_STANDINS = {"salience": "its most salient head", "medoid": "its middle head"}


def draw(explorer: Explorer) -> None:
    """The board, and below it where the heads lie, who covers for whom, and which answers changed."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container():
            st.title("How many heads are enough?")
        with st.popover("How heads are chosen", key="method", width="content"):
            _method(explorer)
    need_run(explorer)
    st.markdown(
        "Every square is an **attention head**: solid ones stay, hollow ones are pruned. Drag the budget. Click a head "
        "to drop it or bring it back; Shift and click asks who covers for it."
    )
    explorer.warm()
    polling = explorer.pending()
    st.fragment(_live, run_every=0.6 if polling else None)(explorer, polling)


def _live(explorer: Explorer, polling: bool) -> None:
    address.write(explorer)
    _see_to_figures(explorer)
    _controls(explorer)
    _board(explorer)
    _below_the_board(explorer)
    _details(explorer)
    if explorer.pending() != polling:
        # Only a run of the whole page starts or stops the looking again.
        st.rerun()


# The board ---------------------------------------------------------------------------------------------------


def _see_to_figures(explorer: Explorer) -> None:
    """Have measured what is on the board; what is already known answers at once."""
    recover = explorer.recover
    table = explorer.table(recover)
    assert table is not None
    table.current_budget = None if explorer.by_hand else explorer.budget
    if explorer.quality(recover) is None and not _gave_up(explorer.figure_job):
        if explorer.mask.empty_layers and recover == "refit":
            explorer.recover = "none"
        explorer.measure(explorer.recover).wait(0.05)
    if not explorer.bundled and recover == "none" and explorer.table_job is None:
        explorer.fill(recover)


def _gave_up(job: jobs.Job[Any] | None) -> bool:
    return job is not None and job.state == "failed"


def _board(explorer: Explorer) -> None:
    table, evidence = explorer.table(explorer.recover), explorer.evidence
    assert table is not None
    assert evidence is not None
    selection = explorer.selection
    job = explorer.figure_job
    charts.heading(
        _finding(explorer),
        help="One table of all budgets draws everything here. A square is a head: solid stays, hollow goes, colour "
        "and letter name its cluster at this budget. A solid line joins budgets that were measured; hollow points on a "
        "dashed line are estimates between them. Accuracy carries Wilson's 95 % interval; time is the median ratio of "
        "the really smaller model to the full one, timed in turns. The silhouette tells how well the clusters are "
        "separated; where its curve bends, more clusters stop paying.",
        formula=r"MSS=\frac1n\sum_i\frac{b_i-a_i}{\max(a_i,b_i)}",
        name="budgets",
        data=lambda: _as_table(table),
    )
    budget_board(
        table,
        evidence,
        Shown(
            explorer.mask,
            "hand" if explorer.by_hand else "auto" if explorer.auto else "budget",
            explorer.quality(explorer.recover),
            explorer.speed(),
            rescued=() if selection is None else selection.rescued,
        ),
        labels=explorer.labels,
        key="board",
        on_event=lambda event: _happened(explorer, event),
        selected=explorer.selected,
        status=_status(job),
    )
    if _gave_up(job):
        shell.problem(job.error if job is not None else "")


def _status(job: jobs.Job[Any] | None) -> str:
    """What keeps a figure waiting."""
    if job is None or job.ended:
        return ""
    doing = STAGES.get(job.stage, "Starting" if job.state == "running" else "Waiting for others")
    return f"{doing}: {job.done} of {job.total}" if job.total > 1 else f"{doing}…"


def _finding(explorer: Explorer) -> str:
    total, kept = explorer.card.layers * explorer.card.heads, explorer.budget
    quality, speed = explorer.quality(explorer.recover), explorer.speed()
    if quality is None:
        return f"{kept} of {total} heads: how they answer is being measured"
    low, high = quality.pp_ci95
    if low <= 0 <= high:
        change = "no measurable change of accuracy"
        if high - low > _WIDE_PP:
            change += f" ({quality.n} texts can only tell that it lies within {span(low, high, 0)} points)"
    else:
        change = f"{abs(quality.pp):.1f} points of accuracy {'lost' if quality.pp < 0 else 'won'}"
    saved = ""
    if speed is not None and speed.measurable:
        saved = f", {abs(1 - speed.ratio) * 100:.0f} % of the time {'saved' if speed.ratio < 1 else 'added'}"
    return f"{kept} of {total} heads: {change}{saved}"


def _as_table(table: BudgetTable) -> dict[str, list[Any]]:
    rows = table.rows()
    return {
        "heads kept": [row.budget for row in rows],
        "accuracy": [row.accuracy for row in rows],
        "accuracy low": [row.quality and row.quality.ci95[0] for row in rows],
        "accuracy high": [row.quality and row.quality.ci95[1] for row in rows],
        "accuracy is": ["measured" if row.quality else "estimated" for row in rows],
        "macro-F1": [row.quality and row.quality.macro_f1 for row in rows],
        "time ratio": [row.ratio for row in rows],
        "time ratio low": [row.speed and row.speed.ci95[0] for row in rows],
        "time ratio high": [row.speed and row.speed.ci95[1] for row in rows],
        "time is": ["measured" if row.speed else "estimated" for row in rows],
    }


def _happened(explorer: Explorer, event: Event) -> None:
    st.session_state.pop(_ANSWER, None)
    try:
        if event.kind == "budget":
            explorer.set_budget(event.budget)
        else:
            explorer.selected = event.head
            pruned = not bool(explorer.mask.keep.flat[event.head])
            if event.kind == "ask" or pruned:
                explorer.detail = "Who covers"
            if event.kind == "toggle":
                explorer.toggle(event.head)
    except CahpError as error:
        st.session_state[_TROUBLE] = str(error)


def _controls(explorer: Explorer) -> None:
    trouble = st.session_state.pop(_TROUBLE, None)
    # Always there, so that a sentence does not move the controls, which would close their panels.
    with st.container(key="board-trouble", gap=None):
        if trouble:
            shell.problem(trouble)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="board-controls"):
        suggested = explorer.suggested
        label = "No bend to follow" if suggested is None else f"Auto: {suggested.mask.count}"
        if st.button(
            label,
            key="board-auto",
            disabled=explorer.auto or suggested is None,
            help="CAHP's own choice: as many heads as there are clusters where the silhouette's curve bends",
        ):
            explorer.set_budget(None)
            st.rerun()
        if st.button("Undo", key="board-undo", disabled=not explorer.can_undo):
            explorer.undo()
            st.rerun()
        if st.button("Reset", key="board-reset", disabled=not explorer.by_hand, help="Back to the budget's own heads"):
            explorer.reset()
            st.rerun()
        with st.popover("By a goal", key="goals"):
            _goals(explorer)
        with st.popover("Load a mask", key="load-mask"):
            _load(explorer)
        _recovery(explorer)
        link("export", "Take it home →")


def _recovery(explorer: Explorer) -> None:
    def chosen() -> None:
        explorer.recover = st.session_state["board-recover"]

    options = ("none", "refit")
    st.session_state["board-recover"] = explorer.recover
    st.segmented_control(
        "Recovery",
        options,
        required=True,
        key="board-recover",
        format_func={"none": "as pruned", "refit": "refitted"}.__getitem__,
        on_change=chosen,
        disabled=bool(explorer.mask.empty_layers),
        help="Refit solves each layer's output projection anew on a few hundred training texts, without labels and "
        "without training. It is kept only if held-out texts agree.",
        label_visibility="collapsed",
    )


def _load(explorer: Explorer) -> None:
    def brought() -> None:
        file = st.session_state["mask-file"]
        if file is None:
            return
        try:
            mask, _ = read_mask(file.getvalue(), layers=explorer.card.layers, heads=explorer.card.heads)
            explorer.set_mask(mask)
        except CahpError as error:
            st.session_state[_TROUBLE] = str(error)

    st.file_uploader("head_mask.json or head_mask.npy", type=["json", "npy"], key="mask-file", on_change=brought)


def _goals(explorer: Explorer) -> None:
    goal = st.radio("Keep", ("a share of the heads", "the accuracy", "the time"), key=_GOAL, horizontal=True)
    if goal == "a share of the heads":
        value = st.number_input("Per cent of the heads", 1, 100, 20, key="goal-share")
    elif goal == "the accuracy":
        value = st.number_input("Lose at most, in points", 0.0, 50.0, 1.0, step=0.5, key="goal-loss")
    else:
        value = st.number_input("Be faster by at least, in per cent", 1, 90, 20, key="goal-speed")
    if st.button("Find the budget", key="goal-apply", type="primary"):
        try:
            st.session_state[_ANSWER] = _reach(explorer, goal, float(value))
        except CahpError as error:
            st.session_state[_TROUBLE] = str(error)
        st.rerun()


def _reach(explorer: Explorer, goal: str, value: float) -> str:
    """Put the budget that meets a goal on the board; the answer in words."""
    table = explorer.table(explorer.recover)
    assert table is not None
    if goal == "a share of the heads":
        budget = int(np.floor(value / 100 * table.budgets[-1] + 0.5))
        table.selection(budget)
        explorer.set_budget(budget)
        return ""
    found = live.within_loss(table, value) if goal == "the accuracy" else live.faster_by(table, value / 100)
    if found is None:
        raise BudgetError("No budget that was measured so far reaches this goal; let more budgets be measured first.")
    explorer.set_budget(found.budget)
    if goal == "the accuracy":
        return (
            f"{found.budget} heads lose at most {value:.1f} points on these texts. They chose the budget, so the "
            "figure is optimistic: the test split, which chose nothing, can confirm it."
        )
    how = "timed" if found.speed is not None else "estimated between two budgets that were timed"
    return f"{found.budget} heads save at least {value:.0f} % of the time ({how})."


# Under the board ---------------------------------------------------------------------------------------------


def _below_the_board(explorer: Explorer) -> None:
    _growing(explorer)
    answer = st.session_state.get(_ANSWER)
    if answer:
        st.info(answer)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _confirm(explorer)
        timeable = not explorer.mask.empty_layers and explorer.speed() is None
        job = explorer.speed_job
        if job is not None and not job.ended:
            st.caption("Timing this mask…")
        elif timeable and st.button("Time this mask", key="time-mask", type="tertiary"):
            explorer.time()
            st.rerun()
        st.caption(shell.provenance(explorer))


def _growing(explorer: Explorer) -> None:
    """How far the table of all budgets is."""
    table, job = explorer.table(explorer.recover), explorer.table_job
    assert table is not None
    done, total = table.measured()
    for failed in (job, explorer.speed_job):
        if failed is not None and failed.error:
            shell.problem(failed.error)
    if job is not None and not job.ended:
        left = job.seconds_left
        rest = "" if left is None or left < 1 else f" · about {duration(left)} left"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.progress(done / total, text=f"Measuring every budget: {done} of {total}{rest}")
            if st.button("Stop", key="stop-table"):
                job.cancel()
                st.rerun()
    elif table.missing() is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Measure every budget", key="fill-table", type="tertiary"):
                explorer.fill(explorer.recover)
                st.rerun()
            st.caption(f"{done} of {total} budgets are measured; the others are estimated or empty.")


def _confirm(explorer: Explorer) -> None:
    if "test" not in explorer.bench.dataset.splits:
        return
    job = explorer.confirm_job
    current = job is not None and job.key == f"confirm-{explorer.mask.sha256}-{explorer.recover}"
    if job is None or not current:
        if st.button(
            "Confirm on the test split, once", key="confirm", help="Opens the test split and counts the look."
        ):
            explorer.confirm(explorer.recover)
            st.rerun()
    elif not job.ended:
        st.caption("Answering the test split…")
    elif job.result is not None:
        st.markdown(f"**Test split: {_sentence(job.result.quality)}** · opened {job.result.opened} time(s) so far")
    elif job.error:
        shell.problem(job.error)


def _sentence(quality: Quality) -> str:
    low, high = quality.ci95
    return (
        f"{percent(quality.accuracy)} ({span(low * 100, high * 100)}, n = {quality.n}), "
        f"{points(quality.pp)} against all heads"
    )


def _details(explorer: Explorer) -> None:
    def chosen() -> None:
        explorer.detail = st.session_state["board-detail"]

    with st.container(key="board-details"):
        st.session_state["board-detail"] = explorer.detail
        st.segmented_control(
            "More",
            ("Where the heads lie", "Who covers", "Changed answers"),
            required=True,
            key="board-detail",
            on_change=chosen,
            label_visibility="collapsed",
        )
        if explorer.detail == "Who covers":
            covers.draw(explorer)
        elif explorer.detail == "Changed answers":
            _changed(explorer)
        else:
            _space(explorer)


def _space(explorer: Explorer) -> None:
    evidence = explorer.evidence
    assert evidence is not None
    labels, mask = explorer.labels, explorer.mask
    clusters = len(np.unique(labels))
    charts.show(
        covers.space_figure(explorer, evidence),
        title=f"{mask.count} survivors among {clusters} clusters of heads",
        help="Each point is a head, placed so that heads which separate the classes in the same way lie close "
        "together. Colour and letter: its cluster. Size: its salience. Solid: kept; hollow: pruned; a ring: the most "
        "salient of its cluster. Distances in this plane are what is clustered"
        + (", except that here clustering uses all features." if explorer.settings.projection == "none" else "."),
        formula=r"BD=\frac{(\mu_a-\mu_b)^2}{4(v_a+v_b)}+\frac12\ln\frac{v_a+v_b}{2\sqrt{v_av_b}},\quad JM=2(1-e^{-BD})",
        name="space",
        data=covers.space_table(explorer, evidence),
        on_pick=lambda head: setattr(explorer, "selected", head),
    )


def _changed(explorer: Explorer) -> None:
    job = explorer.flip_job
    key = f"flips-{explorer.mask.sha256}-{explorer.recover}"
    if job is None or job.key != key:
        st.markdown("Which texts get another answer than from all heads?")
        if st.button("Show them", key="show-flips"):
            explorer.flips(explorer.recover)
            st.rerun()
    elif not job.ended:
        st.caption("Comparing answers…")
    elif job.error:
        shell.problem(job.error)
    else:
        flips = job.result or []
        lost = sum(flip.full == flip.label for flip in flips)
        won = sum(flip.pruned == flip.label for flip in flips)
        st.markdown(f"**{len(flips)} answers changed: {lost} right ones were lost, {won} were won.**")
        if flips:
            st.dataframe(
                {
                    "text": [flip.text for flip in flips],
                    "label": [flip.label for flip in flips],
                    "all heads say": [flip.full for flip in flips],
                    "this mask says": [flip.pruned for flip in flips],
                },
                hide_index=True,
                column_config={"text": st.column_config.TextColumn(width="large")},
            )


# How heads are chosen ----------------------------------------------------------------------------------------


def _method(explorer: Explorer) -> None:
    """The dials of the method. What was measured before stays known."""
    settings = explorer.settings

    def changed(name: str) -> None:
        try:
            explorer.change(**{name: st.session_state[f"method-{name}"]})
        except CahpError as error:
            st.session_state[_TROUBLE] = str(error)

    def dial(widget: Any, label: str, name: str, *args: Any, **options: Any) -> None:
        key = f"method-{name}"
        st.session_state[key] = getattr(settings, name)
        widget(label, *args, key=key, on_change=changed, args=(name,), **options)

    dial(
        st.slider,
        "Polynomial degree of the curve",
        "poly_degree",
        DEGREES.start,
        DEGREES.stop - 1,
        help="The published method's only dial. A low degree sees the bend late and keeps more heads.",
    )
    dial(st.number_input, "Every layer keeps at least", "min_per_layer", 0, explorer.card.heads)
    dial(st.selectbox, "Space", "projection", list(_PROJECTIONS), format_func=_PROJECTIONS.__getitem__)
    dial(st.selectbox, "Salience", "salience", list(_SALIENCES), format_func=_SALIENCES.__getitem__)
    dial(st.selectbox, "A cluster keeps", "representative", list(_STANDINS), format_func=_STANDINS.__getitem__)
    evidence = explorer.evidence
    if evidence is not None:
        rule = evidence.clustering.knee_rule
        st.caption(
            "The curve has no bend."
            if rule == "none"
            else f"The curve bends at {evidence.clustering.knee} ({plain(rule)})."
        )
    if explorer.run is None:
        st.caption("This needs a run on this machine; what is known already is not measured again.")
