"""Measure your own comparison: its form, its cost, and its progress; the work is done by the worker."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from cahp import registry
from cahp.comparison import Comparison, compare
from cahp.comparison.plan import COMPARED, PRESETS, REFERENCE, Plan, make_plan
from cahp.comparison.sentences import method_label
from cahp.models import BUILTINS
from cahp.recoveries import QUICK, RECOVERIES
from cahp.run import command_line
from cahp.run.settings import COLUMNS, MOST, PROMPT, Settings, describe
from cahp.terminal.comparison import announcement
from cahp.ui.frame.running import follow
from cahp.ui.parts.display import plain, problem
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import shared_model
from cahp.values import CahpError, Cancelled, OptionError, Progress

if TYPE_CHECKING:
    from cahp.comparison import ComparisonCost

#: Session keys: the last request, and the job that measures it.
_REQUEST, _RUNNING = "cahp_compare_asked", "cahp_compare_running"
#: Selected at first: cheap methods of different kinds.
_FIRST = (REFERENCE, "random", "gradient", "confidence", "magnitude")
_PRESET = "quick"
_QUICK = PRESETS[_PRESET]
#: Fields of the board's settings that a comparison uses besides model and data; its command contains them.
_SHARED = (*COLUMNS, "label_map", *PROMPT, "min_per_layer", "device")


@dataclass(frozen=True, eq=False)
class _Request:
    """A plan, a key of its model and texts, and the job that estimates its cost (or reads it, if all is cached)."""

    plan: Plan
    subject: str
    job: jobs.Job[Any]


def draw(explorer: Explorer, done: Callable[[Comparison], None]) -> None:
    """Draw the form, the cost and the progress; ``done`` gets the measured comparison."""
    with st.container(border=True, key="compare-own"):
        st.markdown(
            f"**Measure a comparison** of {plain(explorer.card.id)} on {plain(explorer.bench.dataset.id)}. "
            "All methods use their default settings, and the same texts, numbers of heads and recovery. The cost is "
            "shown first. Results contain no texts."
        )
        running = st.session_state.get(_RUNNING)
        if running is not None:
            _draw_run(running, done)
            return
        plan = _draw_form(explorer)
        request = _current_request(explorer, plan)
        if request is not None:
            _draw_cost(explorer, request, done)
        elif st.button("Estimate the cost", key="compare-own-ask", disabled=plan is None) and plan is not None:
            _request_cost(explorer, plan)


def is_active() -> bool:
    """Whether a cost is estimated or a comparison is measured."""
    return _RUNNING in st.session_state or _REQUEST in st.session_state


def _current_request(explorer: Explorer, plan: Plan | None) -> _Request | None:
    """The request for this plan. After a change of the form, the new cost is requested at once."""
    request: _Request | None = st.session_state.get(_REQUEST)
    if request is None or (request.plan == plan and request.subject == _subject(explorer)):
        return request
    request.job.cancel()
    del st.session_state[_REQUEST]
    if plan is not None and request.subject == _subject(explorer):
        _request_cost(explorer, plan)
    return None


def _subject(explorer: Explorer) -> str:
    return f"{explorer.card.sha256}-{explorer.bench.calibration.sha256}-{explorer.bench.evaluation.sha256}"


def _draw_form(explorer: Explorer) -> Plan | None:
    """Draw the form and return its plan; None, with the error on screen, if it is invalid."""
    card, total = explorer.card, explorer.card.layers * explorer.card.heads
    names = list(registry.names())
    few, many = max(card.layers, total // 6), max(card.layers, total // 2)
    with st.container(key="compare-form"):
        methods = st.multiselect(
            "Methods",
            names,
            [name for name in _FIRST if name in names],
            format_func=lambda name: method_label(name) + (" (trains gates)" if registry.facts(name).learned else ""),
            key="compare-own-methods",
            persist_state="session",
            help="Methods that train gates take much longer.",
        )
        budgets, seeds, texts, recover = st.columns(4, gap="medium")
        heads = budgets.text_input(
            f"Heads kept, of {total}",
            f"{few}, {many}" if few < many else str(few),
            key=f"compare-own-budgets-{total}",
            persist_state="session",
            help=f"Numbers from {card.layers} to {total}, or shares such as 25%, separated by commas.",
        )
        count = seeds.number_input(
            "Seeds",
            1,
            20,
            2,
            key="compare-own-seeds",
            persist_state="session",
            help="A seed draws the calibration texts and the random masks.",
        )
        sizes: dict[str, tuple[int | None, int | None]] = {
            "few": (_QUICK.limit, _QUICK.eval_limit),
            "as in the sidebar": (explorer.settings.limit, explorer.settings.eval_limit),
        }
        size = texts.selectbox(
            "Calibration / evaluation texts",
            list(sizes),
            format_func=lambda name: f"{name}: {_count(sizes[name][0])} / {_count(sizes[name][1])}",
            key="compare-own-texts",
            persist_state="session",
            help="More texts show smaller differences, and take longer.",
        )
        recoveries = recover.multiselect(
            "Also after",
            [name for name in COMPARED[1:] if RECOVERIES[name].trains or not card.no_refit],
            [QUICK.name] if not card.no_refit else [],
            format_func=lambda name: RECOVERIES[name].noun + (" (slow)" if RECOVERIES[name].trains else ""),
            key="compare-own-recover",
            persist_state="session",
            help=f"{card.no_refit}." if card.no_refit else "The pruned model is always measured.",
        )
        try:
            return _plan(explorer, methods, heads, int(count), sizes[size], recoveries)
        except CahpError as error:
            problem(error)
            return None


def _count(limit: int | None) -> str:
    return "all" if limit is None else f"{limit:,}"


def _plan(
    explorer: Explorer,
    methods: list[str],
    heads: str,
    seeds: int,
    texts: tuple[int | None, int | None],
    recoveries: list[str],
) -> Plan:
    if len(methods) < 2:
        raise OptionError("A comparison needs at least two methods; select another one.")
    settings = explorer.settings
    plan = make_plan(
        # Fields that the command cannot contain keep their defaults: the command must measure the same.
        Settings(model=settings.model, data=settings.data, **{name: getattr(settings, name) for name in _SHARED}),
        # Few random masks, for a short wait.
        preset=_PRESET,
        # The reference comes first.
        methods=sorted(methods, key=lambda name: name != REFERENCE),
        budgets=heads,
        seeds=seeds,
        recover=("none", *recoveries),
        limit=texts[0] or MOST,
        eval_limit=texts[1] or MOST,
    )
    plan.heads(layers=explorer.card.layers, heads=explorer.card.heads)
    return plan


def command(plan: Plan) -> str:
    """The command line that measures the same."""
    settings = plan.settings
    words = ["cahp", "compare", "--model", settings.model]
    builtin = BUILTINS.get(settings.model)
    if settings.data is not None and (builtin is None or settings.data != builtin.data):
        words += ["--data", settings.data]
    words += ["--preset", _PRESET, "--methods", ",".join(plan.methods)]
    words += ["--budgets", ",".join(plan.budgets), "--seeds", str(len(plan.seeds))]
    # Without a number, the command uses the preset's.
    for name in ("limit", "eval_limit"):
        words += [describe()[name].flag, command_line.to_text(getattr(settings, name))]
    words += ["--recover", ",".join(plan.recoveries)]
    words += command_line.to_arguments(settings, {name: describe()[name].flag for name in _SHARED})
    return shlex.join(words)


# The cost and the run ----------------------------------------------------------------------------------------


def _work(explorer: Explorer, plan: Plan) -> Callable[..., Any]:
    """``compare`` for this session's model and texts; the function holds nothing else of the session."""
    store = explorer.bench.resources.store
    # Uploaded texts exist only in this session; others can be read again.
    dataset = explorer.source.raw if explorer.source.uploaded else None
    line = command(plan)
    return lambda **options: compare(plan, store=store, load=shared_model, dataset=dataset, command=line, **options)


def _summarise(comparison: Comparison) -> Comparison:
    # In the job, so that the page does not wait for it.
    _ = comparison.results, comparison.files
    return comparison


def _request_cost(explorer: Explorer, plan: Plan) -> None:
    work = _work(explorer, plan)

    def estimate(progress: Progress) -> ComparisonCost | Comparison:
        announced: list[ComparisonCost] = []

        def announce(cost: ComparisonCost) -> None:
            announced.append(cost)
            raise Cancelled

        try:
            return _summarise(work(announce=announce, progress=progress))
        except Cancelled:
            if not announced:
                raise
            return announced[0]

    job = jobs.submit(explorer.id, f"compare-cost-{hash(repr(plan))}", estimate, rank=jobs.Rank.QUICK)
    st.session_state[_REQUEST] = _Request(plan, _subject(explorer), job)
    job.wait(1.0)
    st.rerun()


def _draw_cost(explorer: Explorer, request: _Request, done: Callable[[Comparison], None]) -> None:
    job = request.job
    if not job.ended:
        follow(job, place="compare-cost", title="Timing a forward pass of the full model")
        return
    if job.error:
        problem(job.error)
        return
    if isinstance(job.result, Comparison):
        del st.session_state[_REQUEST]
        done(job.result)
        st.rerun()
    if job.result is None:
        st.info("Stopped before the cost was known. Estimate it again to continue.")
        return
    st.markdown(f"{announcement(job.result)}. Finished results are kept if you stop.")
    st.code(command(request.plan), language="bash", wrap_lines=True)
    if st.button("Measure", type="primary", key="compare-own-start"):
        work = _work(explorer, request.plan)

        def measure(progress: Progress) -> Comparison:
            return _summarise(work(progress=progress))

        st.session_state[_RUNNING] = jobs.submit(
            explorer.id, f"compare-{hash(repr(request.plan))}", measure, expected=60 * job.result.minutes
        )
        st.session_state[_RUNNING].wait(1.0)
        st.rerun()


def _draw_run(job: jobs.Job[Comparison], done: Callable[[Comparison], None]) -> None:
    if not job.ended:
        follow(job, place="compare", title="Comparing")
        st.caption("You can use the other pages meanwhile. The work continues while this tab is open.")
        return
    if job.result is not None:
        st.session_state.pop(_RUNNING)
        st.session_state.pop(_REQUEST, None)
        done(job.result)
        st.rerun()
    if job.error:
        problem(job.error)
    else:
        st.info("Stopped. Finished results are kept; continue later from here.")
    if st.button("Back to the form", key="compare-own-back"):
        st.session_state.pop(_RUNNING)
        st.session_state.pop(_REQUEST, None)
        st.rerun()
