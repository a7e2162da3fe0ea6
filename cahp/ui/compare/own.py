"""Measure your own comparison: its form, its price and its progress; the work is done by the worker."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import streamlit as st

from cahp.comparison import Comparison
from cahp.comparison.cells import count_critical
from cahp.comparison.plan import PRESETS, REFERENCE, Plan, make_plan
from cahp.comparison.running import compare
from cahp.comparison.sentences import method_label
from cahp.data import Dataset
from cahp.methods.shared import registry
from cahp.recoveries import COMPARED, QUICK, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.measurements import estimate_seconds
from cahp.run.settings import COLUMNS, PROMPT, Settings, describe, to_arguments
from cahp.ui.frame.running import job_card, show_job
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Rank
from cahp.ui.session.opening import shared_model
from cahp.ui.session.work import Kind
from cahp.values import CahpError, OptionError, Progress

#: Selected at first: cheap methods of different kinds.
_FIRST = (REFERENCE, "random", "gradient", "confidence", "magnitude")
#: Fields of the board's settings that a comparison uses besides the model; its command contains them.
_SHARED = (
    "data",
    *COLUMNS,
    "label_map",
    *PROMPT,
    "dtype",
    "max_length",
    "window",
    "stride",
    "bos",
    "tokens",
    "mix",
    "eval_tokens",
    "min_per_layer",
    "min_first_layers",
    "even",
    "device",
)


@dataclass(frozen=True, eq=False)
class _Request:
    """A comparison on the session's model and texts; ``dataset`` has texts that exist only in the session."""

    plan: Plan
    bench: Bench
    dataset: Dataset | None

    def __str__(self) -> str:
        bench = self.bench
        return f"{hash(repr(self.plan))}-{bench.card.sha256}-{bench.calibration.sha256}-{bench.evaluation.sha256}"


def _compare(request: _Request, progress: Progress) -> Comparison:
    comparison = compare(
        request.plan,
        store=request.bench.resources.store,
        load=shared_model,
        dataset=request.dataset,
        command=command(request.plan, request.bench.card.task.preset),
        progress=progress,
    )
    # In the job, so that the page does not wait for it.
    _ = comparison.results, comparison.files
    return comparison


def _estimate_seconds(request: _Request) -> float:
    """Estimate the seconds of a comparison of which nothing is cached."""
    bench = request.bench
    card = bench.card
    passes = count_critical(card) * len(bench.evaluation)
    for cell in request.plan.cells(card):
        passes += sum(bench.count_passes(name) + len(bench.evaluation) for name in cell.recoveries)
    return estimate_seconds(card, tokens=passes * bench.evaluation.tokens / len(bench.evaluation))


MEASURE = Kind(
    _compare,
    lambda request: f"compare-{request}",
    Rank.LONG,
    awaited=False,
    seconds=_estimate_seconds,
    title="Comparison",
)


def draw(explorer: Explorer, done: Callable[[Comparison], None]) -> None:
    """Draw the form with its price, or the progress; ``done`` gets the measured comparison."""
    with st.container(border=True, key="compare-own"):
        st.markdown(
            f"**Measure a comparison** of {plain(explorer.card.id)} on {plain(explorer.bench.dataset.id)}. "
            "All methods use their default settings, and the same texts, numbers of heads and recovery. Results "
            "contain no texts."
        )
        job = explorer.work.job(MEASURE)
        if job is not None:
            back = partial(explorer.work.drop, MEASURE)
            comparison = show_job(job, back, name="compare-own", title="Comparing", again="Back to the form")
            if comparison is not None:
                back()
                done(comparison)
                st.rerun()
            if not job.ended:
                st.caption("You can use the other pages meanwhile. The work continues while this tab is open.")
            return
        try:
            plan = _draw_form(explorer)
        except CahpError as error:
            problem(error)
            return
        dataset = explorer.source.raw if explorer.source.uploaded else None
        request = _Request(plan, explorer.bench, dataset)
        st.code(command(plan, explorer.card.task.preset), language="bash", wrap_lines=True)
        job_card(explorer, MEASURE, request, name="compare-own-start", offer="Run the comparison", type="primary")


def _draw_form(explorer: Explorer) -> Plan:
    """Draw the form and return its plan.

    Raises:
        CahpError: If it is invalid.
    """
    card = explorer.card
    total = card.layers * card.heads
    preset = card.task.preset
    start = PRESETS[preset]
    offered = [name for name in COMPARED[1:] if RECOVERIES[name].trains or not card.no_refit]
    first = ", ".join(start.budgets) if start.named else f"{max(card.layers, total // 6)}, 50%"
    with st.container(key="compare-form"):
        methods = st.multiselect(
            "Methods",
            registry.names(),
            start.named or _FIRST,
            format_func=method_label,
            key=f"compare-own-methods-{preset}",
            persist_state="session",
            help="Methods that train gates take much longer.",
        )
        budgets, seeds, recover = st.columns(3, gap="medium")
        heads = budgets.text_input(
            f"Heads kept, of {total}",
            first,
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
            [name for name in offered if name == QUICK.name],
            format_func=lambda name: RECOVERIES[name].noun,
            key="compare-own-recover",
            persist_state="session",
            help="The pruned model is always measured. Distillation and fine-tuning are slow.",
        )
        return _plan(explorer, methods, heads, count, recoveries)


def _plan(explorer: Explorer, methods: list[str], heads: str, seeds: int, recoveries: list[str]) -> Plan:
    if len(methods) < 2:
        raise OptionError("A comparison needs at least two methods; select another one.")
    plan = make_plan(
        # Fields that the command cannot contain keep their defaults: the command must measure the same.
        Settings(**{name: getattr(explorer.settings, name) for name in ("model", *_SHARED)}),
        preset=explorer.card.task.preset,
        # The reference comes first.
        methods=sorted(methods, key=lambda name: name != REFERENCE),
        budgets=heads,
        seeds=seeds,
        recover=("none", *recoveries),
    )
    plan.heads(explorer.card)
    return plan


def command(plan: Plan, preset: str) -> str:
    """Return the command line that measures the same."""
    settings = plan.settings
    described = describe()
    words = ["cahp", "compare", "--model", settings.model]
    words += to_arguments(settings, {name: described[name].flag for name in _SHARED})
    words += ["--preset", preset, "--methods", ",".join(plan.methods), "--budgets", ",".join(plan.budgets)]
    return shlex.join([*words, "--seeds", str(len(plan.seeds)), "--recover", ",".join(plan.recoveries)])
