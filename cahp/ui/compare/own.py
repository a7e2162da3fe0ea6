"""A comparison of one's own: what to measure, what it will cost, and the measuring, in the worker."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from cahp import registry
from cahp.comparison import Comparison, asking, compare
from cahp.comparison.plan import OURS, PRESETS, Plan, learned
from cahp.comparison.sentences import AFTER, called
from cahp.models import BUILTINS
from cahp.run import command_line
from cahp.run.settings import COLUMNS, MOST, PROMPT, Settings, describe
from cahp.ui.frame import page as shell
from cahp.ui.frame.progress import follow
from cahp.ui.parts.text import plain
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import shared_model
from cahp.values import CahpError, Cancelled, OptionError, Progress
from cahp.words import duration

if TYPE_CHECKING:
    from cahp.comparison import Estimate

#: Session keys: what was asked last, and the job that measures it.
_ASKED, _RUNNING = "cahp_compare_asked", "cahp_compare_running"
#: Cheap rivals of different kinds, to begin with.
_FIRST = (OURS, "random", "gradient", "confidence", "magnitude")
_PRESET = "quick"
_QUICK = PRESETS[_PRESET]
#: What a comparison takes over from the board's settings beside its model and data, and its command says.
_SAID = (*COLUMNS, "label_map", *PROMPT, "min_per_layer", "device")


@dataclass(frozen=True, eq=False)
class _Asked:
    """A plan, and the job that finds out what it will take (or, where all is cached, what it says)."""

    plan: Plan
    of: str
    job: jobs.Job[Any]


def draw(explorer: Explorer, done: Callable[[Comparison], None]) -> None:
    """Draw the form, the cost and the progress; ``done`` gets the comparison once it is measured."""
    with st.container(border=True, key="compare-own"):
        st.markdown(
            f"**Measure a comparison** of {plain(explorer.card.id)} on {plain(explorer.bench.dataset.id)}. "
            "All methods have their usual settings, and the same texts, numbers of heads and recovery. You see the "
            "cost first; no text gets into the result."
        )
        running = st.session_state.get(_RUNNING)
        if running is not None:
            _run(running, done)
            return
        plan = _form(explorer)
        asked = _asked(explorer, plan)
        if asked is not None:
            _cost(explorer, asked, done)
        elif st.button("What would it take?", key="compare-own-ask", disabled=plan is None) and plan is not None:
            _ask(explorer, plan)


def under_way() -> bool:
    """Whether something was asked or is measured, so that it should be seen."""
    return _RUNNING in st.session_state or _ASKED in st.session_state


def _asked(explorer: Explorer, plan: Plan | None) -> _Asked | None:
    """What was asked of this plan; who asked once and changes something is told the new cost without asking again."""
    asked: _Asked | None = st.session_state.get(_ASKED)
    if asked is None or (asked.plan == plan and asked.of == _about(explorer)):
        return asked
    asked.job.cancel()
    del st.session_state[_ASKED]
    if plan is not None and asked.of == _about(explorer):
        _ask(explorer, plan)
    return None


def _about(explorer: Explorer) -> str:
    return f"{explorer.card.sha256}-{explorer.bench.calibration.sha256}-{explorer.bench.evaluation.sha256}"


def _form(explorer: Explorer) -> Plan | None:
    """What to measure; None, and why, where that cannot be compared."""
    card, total = explorer.card, explorer.card.layers * explorer.card.heads
    names = list(registry.names())
    few, many = max(card.layers, total // 6), max(card.layers, total // 2)
    with st.container(key="compare-form"):
        methods = st.multiselect(
            "Methods",
            names,
            [name for name in _FIRST if name in names],
            format_func=_option,
            key="compare-own-methods",
            persist_state="session",
            help="Methods that train gates take much longer than the others.",
        )
        budgets, seeds, texts, recover = st.columns(4, gap="medium")
        heads = budgets.text_input(
            f"Heads kept, of {total}",
            f"{few}, {many}" if few < many else str(few),
            key=f"compare-own-budgets-{total}",
            persist_state="session",
            help=f"With commas: numbers from {card.layers} to {total}, or shares such as 25%.",
        )
        count = seeds.number_input(
            "Seeds",
            1,
            20,
            2,
            key="compare-own-seeds",
            persist_state="session",
            help="A seed draws the calibration texts, and all chance.",
        )
        small, large = (_QUICK.limit, _QUICK.eval_limit), (explorer.settings.limit, explorer.settings.eval_limit)
        sizes = {"few": small, "as in the sidebar": large}
        size = texts.selectbox(
            "Calibration / evaluation texts",
            list(sizes),
            format_func=lambda name: f"{name}: {_count(sizes[name][0])} / {_count(sizes[name][1])}",
            key="compare-own-texts",
            persist_state="session",
            help="More texts tell smaller differences apart, and take longer.",
        )
        recoveries = recover.multiselect(
            "Also after",
            [name for name in ("refit", "finetune") if name != "refit" or not card.no_refit],
            ["refit"] if not card.no_refit else [],
            format_func=lambda name: {"refit": "refit", "finetune": "fine-tuning (slow)"}[name],
            key="compare-own-recover",
            persist_state="session",
            help=f"{card.no_refit}." if card.no_refit else "Before recovery is always measured.",
        )
        try:
            return _plan(explorer, methods, heads, int(count), sizes[size], recoveries)
        except CahpError as error:
            shell.problem(error)
            return None


def _option(name: str) -> str:
    return f"{called(name)} (trains gates)" if learned(name) else called(name)


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
        raise OptionError("A comparison needs two methods at least; choose another one.")
    settings = explorer.settings
    plan = asking.asked(
        # What the command cannot say is as usual, however the board reads its heads: it must measure the same.
        Settings(model=settings.model, data=settings.data, **{name: getattr(settings, name) for name in _SAID}),
        # As few masks of chance as somebody waits for.
        preset=_PRESET,
        # The method that the others are held against stands first.
        methods=sorted(methods, key=lambda name: name != OURS),
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
    words += [
        "--preset",
        _PRESET,
        "--methods",
        ",".join(plan.methods),
        "--budgets",
        ",".join(plan.budgets),
        "--seeds",
        str(len(plan.seeds)),
    ]
    # Without a number, a command takes some.
    for name in ("limit", "eval_limit"):
        words += [describe()[name].flag, command_line.to_text(getattr(settings, name))]
    words += ["--recover", ",".join(plan.recoveries)]
    words += command_line.to_arguments(settings, {name: describe()[name].flag for name in _SAID})
    return shlex.join(words)


# What it will take, and taking it ----------------------------------------------------------------------------


def _work(explorer: Explorer, plan: Plan) -> Callable[..., Any]:
    """``compare`` for this session's model and texts; nothing of the session is kept beyond the job."""
    store = explorer.bench.resources.store
    # Texts that somebody brought are at hand only; the others may be read again.
    dataset = explorer.source.raw if explorer.source.uploaded else None
    said = command(plan)
    return lambda **options: compare(plan, store=store, load=shared_model, dataset=dataset, command=said, **options)


def _read(found: Comparison) -> Comparison:
    # Summarised and drawn in the job, where nobody waits for a page.
    _ = found.reading, found.files
    return found


def _ask(explorer: Explorer, plan: Plan) -> None:
    work = _work(explorer, plan)

    def estimate(progress: Progress) -> Estimate | Comparison:
        announced: list[Estimate] = []

        def announce(found: Estimate) -> None:
            announced.append(found)
            raise Cancelled

        try:
            return _read(work(announce=announce, progress=progress))
        except Cancelled:
            if not announced:
                raise
            return announced[0]

    job = jobs.submit(explorer.id, f"compare-cost-{hash(repr(plan))}", estimate, rank=jobs.Rank.QUICK)
    st.session_state[_ASKED] = _Asked(plan, _about(explorer), job)
    job.wait(1.0)
    st.rerun()


def _cost(explorer: Explorer, asked: _Asked, done: Callable[[Comparison], None]) -> None:
    job = asked.job
    if not job.ended:
        follow(job, place="compare-cost", title="Timing a forward pass of the full model")
        return
    if job.error:
        shell.problem(job.error)
        return
    if isinstance(job.result, Comparison):
        del st.session_state[_ASKED]
        done(job.result)
        st.rerun()
    if job.result is None:
        st.info("Stopped before the cost was known. Ask again to go on.")
        return
    st.markdown(announcement(asked.plan, job.result))
    st.code(command(asked.plan), language="bash", wrap_lines=True)
    if st.button("Measure it", type="primary", key="compare-own-start"):
        work = _work(explorer, asked.plan)

        def measure(progress: Progress) -> Comparison:
            return _read(work(progress=progress))

        st.session_state[_RUNNING] = jobs.submit(
            explorer.id, f"compare-{hash(repr(asked.plan))}", measure, expected=60 * job.result.minutes
        )
        st.session_state[_RUNNING].wait(1.0)
        st.rerun()


def announcement(plan: Plan, estimate: Estimate) -> str:
    """What a comparison will take, in Markdown."""
    left = estimate.cells - estimate.cached
    cached = f" ({estimate.cached:,} more were measured before)" if estimate.cached else ""
    when = " and ".join(AFTER[recovery] for recovery in plan.recoveries)
    return (
        f"**About {duration(60 * estimate.minutes)}.** {left:,} masks to choose and measure "
        f"{when}{cached}: {estimate.forwards:,.0f} forward passes of one text, {estimate.choosing:,.0f} of them to "
        f"choose heads, at {estimate.forward_ms:.1f} ms each on this machine. What is measured is kept, so stopping "
        "loses little."
    )


def _run(job: jobs.Job[Comparison], done: Callable[[Comparison], None]) -> None:
    if not job.ended:
        follow(job, place="compare", title="Comparing")
        st.caption("You can look around meanwhile: it goes on as long as this tab is open.")
        return
    if job.result is not None:
        st.session_state.pop(_RUNNING)
        st.session_state.pop(_ASKED, None)
        done(job.result)
        st.rerun()
    if job.error:
        shell.problem(job.error)
    else:
        st.info("Stopped. What was measured is kept, so going on later takes less.")
    if st.button("Back to the choice", key="compare-own-back"):
        st.session_state.pop(_RUNNING)
        st.session_state.pop(_ASKED, None)
        st.rerun()
