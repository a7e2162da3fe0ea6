"""Measure your own comparison: its form, its cost, and its progress; the work is done by the worker."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import streamlit as st

from cahp.comparison import Comparison
from cahp.comparison.plan import PRESETS, REFERENCE, Plan, default_preset, make_plan
from cahp.comparison.running import ComparisonCost, compare, describe_cost
from cahp.comparison.sentences import method_label
from cahp.data import Dataset
from cahp.methods.shared import registry
from cahp.models.cards import ModelCard
from cahp.recoveries import COMPARED, QUICK, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.settings import COLUMNS, PROMPT, Settings, describe, to_arguments
from cahp.ui.frame.running import show_job
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job, Rank
from cahp.ui.session.opening import shared_model
from cahp.ui.session.work import Kind
from cahp.values import CahpError, Cancelled, OptionError, Progress

#: Selected at first: cheap methods of different kinds.
_FIRST = (REFERENCE, "random", "gradient", "confidence", "magnitude")
#: Fields of the board's settings that a comparison uses besides the model; its command contains them.
_WINDOWS = ("window", "stride", "bos", "tokens", "mix", "eval_tokens")
_MINIMA = ("min_per_layer", "min_first_layers")
_SHARED = ("data", *COLUMNS, "label_map", *PROMPT, "dtype", "max_length", *_WINDOWS, *_MINIMA, "even", "device")


@dataclass(frozen=True, eq=False)
class _Request:
    """A comparison on the session's model and texts; ``dataset`` has texts that exist only in the session."""

    plan: Plan
    preset: str
    bench: Bench
    dataset: Dataset | None
    minutes: float = 0.0

    def __str__(self) -> str:
        bench = self.bench
        return f"{hash(repr(self.plan))}-{bench.card.sha256}-{bench.calibration.sha256}-{bench.evaluation.sha256}"


def _compare(request: _Request, progress: Progress, **options: Any) -> Comparison:
    comparison = compare(
        request.plan,
        store=request.bench.resources.store,
        load=shared_model,
        dataset=request.dataset,
        command=command(request.plan, request.preset),
        progress=progress,
        **options,
    )
    # In the job, so that the page does not wait for it.
    _ = comparison.results, comparison.files
    return comparison


def _estimate(request: _Request, progress: Progress) -> ComparisonCost | Comparison:
    """Return the cost of a comparison, or the comparison if all of it is cached."""
    costs: list[ComparisonCost] = []

    def announce(cost: ComparisonCost) -> None:
        costs.append(cost)
        raise Cancelled

    try:
        return _compare(request, progress, announce=announce)
    except Cancelled:
        if not costs:
            raise
        return costs[0]


#: Estimate the cost of a comparison, and measure it.
COST: Kind[_Request, ComparisonCost | Comparison] = Kind(
    _estimate, lambda request: f"compare_cost-{request}", awaited=False, newest=True
)
MEASURE: Kind[_Request, Comparison] = Kind(
    _compare,
    lambda request: f"compare-{request}",
    Rank.LONG,
    awaited=False,
    seconds=lambda request: 60 * request.minutes,
    title="Comparison",
)


def draw(explorer: Explorer, done: Callable[[Comparison], None]) -> None:
    """Draw the form, the cost and the progress; ``done`` gets the measured comparison."""
    with st.container(border=True, key="compare-own"):
        st.markdown(
            f"**Measure a comparison** of {plain(explorer.card.id)} on {plain(explorer.bench.dataset.id)}. "
            "All methods use their default settings, and the same texts, numbers of heads and recovery. The expected "
            "time is shown first. Results contain no texts."
        )
        running = explorer.work.job(MEASURE)
        if running is not None:
            _draw_run(explorer, running, done)
            return
        plan = _draw_form(explorer)
        if plan is None:
            explorer.work.drop(COST)
            st.button("Estimate the time", key="compare-own-ask", disabled=True)
            return
        dataset = None
        if explorer.source.uploaded:
            dataset = explorer.source.raw
        request = _Request(plan, default_preset(explorer.card), explorer.bench, dataset)
        job = explorer.work.job(COST, request)
        if job is not None:
            _draw_cost(explorer, request, job, done)
        # After a change of the form, the new cost is estimated at once.
        elif explorer.work.job(COST) is not None or st.button("Estimate the time", key="compare-own-ask"):
            explorer.work.start(COST, request).wait(1.0)
            st.rerun()


def is_active(explorer: Explorer) -> bool:
    """Return whether a cost is estimated or a comparison is measured."""
    return explorer.work.job(MEASURE) is not None or explorer.work.job(COST) is not None


def _draw_form(explorer: Explorer) -> Plan | None:
    """Draw the form and return its plan; None, with the error on screen, if it is invalid."""
    card = explorer.card
    total = card.layers * card.heads
    preset = default_preset(card)
    start = PRESETS[preset]
    offered = [name for name in COMPARED[1:] if RECOVERIES[name].trains or not card.no_refit]
    chosen = [QUICK.name]
    about_recoveries = "The pruned model is always measured."
    if card.no_refit:
        chosen = []
        about_recoveries = f"{card.no_refit}."
    with st.container(key="compare-form"):
        methods = st.multiselect(
            "Methods",
            registry.names(),
            start.named or _FIRST,
            format_func=_name_method,
            key=f"compare-own-methods-{preset}",
            persist_state="session",
            help="Methods that train gates take much longer.",
        )
        budgets, seeds, recover = st.columns(3, gap="medium")
        heads = budgets.text_input(
            f"Heads kept, of {total}",
            _first_budgets(card),
            key=f"compare-own-budgets-{total}",
            persist_state="session",
            help=f"Numbers from {card.layers} to {total}, or shares such as 25%, separated by commas.",
        )
        count = seeds.number_input(
            "Seeds",
            1,
            20,
            len(start.seeds),
            key=f"compare-own-seeds-{preset}",
            persist_state="session",
            help="A seed draws the calibration texts and the random masks.",
        )
        recoveries = recover.multiselect(
            "Recoveries",
            offered,
            chosen,
            format_func=_name_recovery,
            key="compare-own-recover",
            persist_state="session",
            help=about_recoveries,
        )
        try:
            return _plan(explorer, methods, heads, count, recoveries)
        except CahpError as error:
            problem(error)
            return None


def _first_budgets(card: ModelCard) -> str:
    """Return the numbers of heads that the form begins with: those of the preset, or a sixth and a half of all."""
    start = PRESETS[default_preset(card)]
    if start.named:
        return ", ".join(start.budgets)
    total = card.layers * card.heads
    few = max(card.layers, total // 6)
    many = max(card.layers, total // 2)
    return f"{few}, {many}" if few < many else str(few)


def _name_method(name: str) -> str:
    if registry.facts(name).learned:
        return f"{method_label(name)} (trains gates)"
    return method_label(name)


def _name_recovery(name: str) -> str:
    if RECOVERIES[name].trains:
        return f"{RECOVERIES[name].noun} (slow)"
    return RECOVERIES[name].noun


def _plan(explorer: Explorer, methods: list[str], heads: str, seeds: int, recoveries: list[str]) -> Plan:
    if len(methods) < 2:
        raise OptionError("A comparison needs at least two methods; select another one.")
    plan = make_plan(
        # Fields that the command cannot contain keep their defaults: the command must measure the same.
        Settings(**{name: getattr(explorer.settings, name) for name in ("model", *_SHARED)}),
        preset=default_preset(explorer.card),
        # The reference comes first.
        methods=sorted(methods, key=lambda name: name != REFERENCE),
        budgets=heads,
        seeds=seeds,
        recover=("none", *recoveries),
    )
    plan.heads(layers=explorer.card.layers, heads=explorer.card.heads)
    return plan


def command(plan: Plan, preset: str) -> str:
    """Return the command line that measures the same."""
    settings = plan.settings
    described = describe()
    words = ["cahp", "compare", "--model", settings.model]
    words += to_arguments(settings, {name: described[name].flag for name in _SHARED})
    words += ["--preset", preset, "--methods", ",".join(plan.methods), "--budgets", ",".join(plan.budgets)]
    return shlex.join([*words, "--seeds", str(len(plan.seeds)), "--recover", ",".join(plan.recoveries)])


def _draw_cost(
    explorer: Explorer, request: _Request, job: Job[ComparisonCost | Comparison], done: Callable[[Comparison], None]
) -> None:
    start = partial(explorer.work.start, COST, request)
    title = "Timing a forward pass of the full model"
    cost = show_job(job, start, name="compare-cost", title=title, again="Estimate the time")
    if cost is None:
        return
    if isinstance(cost, Comparison):
        st.markdown("This comparison was measured before: all of its results are cached.")
        if st.button("Show it", type="primary", key="compare-own-show"):
            explorer.work.drop(COST)
            done(cost)
            st.rerun()
    else:
        settings = request.plan.settings
        texts = f"{settings.limit} calibration and {settings.eval_limit} evaluation texts"
        if explorer.card.task.predicts_often:
            texts = f"{settings.tokens:,} calibration and {settings.eval_tokens:,} evaluation tokens"
        st.markdown(f"{describe_cost(cost)}, on {texts}. Finished results are kept if you stop.")
        st.code(command(request.plan, request.preset), language="bash", wrap_lines=True)
        if st.button("Run the comparison", type="primary", key="compare-own-start"):
            explorer.work.start(MEASURE, replace(request, minutes=cost.minutes)).wait(1.0)
            st.rerun()


def _draw_run(explorer: Explorer, job: Job[Comparison], done: Callable[[Comparison], None]) -> None:
    back = partial(explorer.work.drop, MEASURE, COST)
    comparison = show_job(job, back, name="compare-own", title="Comparing", again="Back to the form")
    if comparison is not None:
        back()
        done(comparison)
        st.rerun()
    if not job.ended:
        st.caption("You can use the other pages meanwhile. The work continues while this tab is open.")
