"""Is it any good: methods of choosing heads under the same rules, and what can be said of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from cahp import bundled as bundle
from cahp.ui.compare import own as compare_own
from cahp.ui.compare import shelf as compare_shelf
from cahp.ui.compare.figures import (
    accuracy_figure,
    by_depth,
    consensus_figure,
    difference_figure,
    layer_figure,
    mean_overlap,
    overlap_figure,
    overlap_table,
)
from cahp.ui.compare.reading import AFTER, Reading, headline, opened, phrase, towards_output, words
from cahp.ui.frame import page as shell
from cahp.ui.parts import chart as charts
from cahp.ui.parts import palette
from cahp.ui.parts.text import plain
from cahp.ui.session.explorer import Explorer
from cahp.values import CahpError
from cahp.words import percent, span

#: Session keys: comparisons that this session measured or opened, and the one on screen.
_MINE, _CHOSEN = "cahp_compare_mine", "compare-which"

#: What recoveries are called where one is chosen.
_RECOVERIES = {"none": "Before", "refit": "Refit", "finetune": "Fine-tuned"}

_REPAIRS = {"refit": "Refit", "finetune": "Fine-tuning"}

_JACCARD = (
    r"J(A,B)=\frac{|A\cap B|}{|A\cup B|},\qquad \mathbb{E}[J]=\sum_i P(i)\,\frac{i}{2k-i},\quad "
    r"P=\text{hypergeometric}(N,k,k)"
)
_TEST = r"p=\min\!\left(1,\;2\,\frac{1+\min(\#\{\Delta^*\le 0\},\#\{\Delta^*\ge 0\})}{1+B}\right),\quad B=10\,000"
_INTERVAL = r"\left[q_{2.5},\,q_{97.5}\right]\text{ of }\bar a^{*}\text{ over draws of seeds}\times\text{texts}"
_DEPTH = r"\bar\ell=\frac{\sum_{\ell}\ell\,k_\ell}{\sum_{\ell}k_\ell},\qquad \text{even spread: }\frac{L-1}{2}"
_AREA = r"\bar a=\frac{1}{k_m-k_1}\sum_{i=1}^{m-1}\frac{(a_i+a_{i+1})\,(k_{i+1}-k_i)}{2}"


@dataclass(frozen=True, eq=False)
class _Choice:
    """A comparison that can be shown: where it comes from, in Markdown, and what it says."""

    label: str
    origin: str
    reading: Reading


@dataclass(frozen=True)
class _View:
    """What is looked at: after which recovery, at how many heads, and which methods."""

    recovery: str
    budget: int
    methods: tuple[str, ...]


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Is it any good?")
    choices, broken = _choices()
    for sentence in broken:
        shell.problem(sentence)
    if not choices:
        _nothing(explorer)
        return
    choice = _chosen(explorer, choices)
    found = choice.reading
    st.subheader(headline(found))
    st.caption(f"{choice.origin} {_asked(found)}")
    if found.notices:
        with st.expander(f"Notes ({len(found.notices)})", key="compare-notes"):
            st.markdown("\n".join(f"- {plain(notice[:400])}" for notice in found.notices[:20]))
    view = _filters(found)
    _accuracy(found, view)
    _differences(found, view)
    left, right = st.columns([8, 7], gap="medium")
    with left:
        _layers(found, view)
    with right:
        _consensus(found, view)
    _overlap(found, view)
    _cost(found, view)
    _downloads(found)
    st.subheader("One of your own")
    compare_own.draw(explorer, _keep)


# Which comparison --------------------------------------------------------------------------------------------


def _choices() -> tuple[dict[str, _Choice], list[str]]:
    """Everything that can be shown, by a key of its own: what this session made first, then what is bundled."""
    choices: dict[str, _Choice] = dict(reversed(_mine().items()))
    bundled, broken = compare_shelf.shelved(compare_shelf.shelf())
    for one in bundled:
        when = f", {one.made['date']}" if one.made else ""
        where = (
            f"**Bundled**: measured on {plain(one.made['machine'])}, {plain(one.made['date'])}."
            if one.made
            else "**Bundled**: where and when it was measured was not recorded."
        )
        choices[f"bundled-{one.name}"] = _Choice(f"{one.reading.title} · bundled{when}", where, one.reading)
    return choices, broken


def _mine() -> dict[str, _Choice]:
    return st.session_state.setdefault(_MINE, {})  # type: ignore[no-any-return]


def _keep(found: Reading) -> None:
    """Show a comparison that was measured here, from now on."""
    key = f"own-{len(_mine()) + 1}"
    origin = f"**Measured on this machine** ({plain(bundle.machine())})."
    _mine()[key] = _Choice(f"{found.title} · measured here ({len(_mine()) + 1})", origin, found)
    st.session_state[f"{_CHOSEN}-next"] = key


def _chosen(explorer: Explorer, choices: dict[str, _Choice]) -> _Choice:
    wished = st.session_state.pop(f"{_CHOSEN}-next", None)
    if wished in choices:
        st.session_state[_CHOSEN] = wished
    if st.session_state.get(_CHOSEN) not in choices:
        same = [key for key, one in choices.items() if one.reading.model_sha256 == explorer.card.sha256]
        # The one that says most.
        st.session_state[_CHOSEN] = max(same or choices, key=lambda key: len(choices[key].reading.means))
    left, right = st.columns([4, 1], vertical_alignment="bottom", gap="small")
    with left:
        key = st.selectbox(
            "Comparison",
            list(choices),
            format_func=lambda key: choices[key].label,
            key=_CHOSEN,
            persist_state="session",
            label_visibility="collapsed",
        )
    with right:
        _door()
    return choices[key]


def _door() -> None:
    with st.popover("Open a file", key="compare-open", width="stretch"):
        _uploader()


def _uploader() -> None:
    def brought() -> None:
        file = st.session_state["compare-file"]
        st.session_state.pop("compare-trouble", None)
        if file is None:
            return
        try:
            found = opened(file.name, file.getvalue())
        except CahpError as error:
            st.session_state["compare-trouble"] = str(error)
            return
        key = f"file-{len(_mine()) + 1}"
        _mine()[key] = _Choice(
            f"{found.title} · {file.name[:40]}", f"**From your file** {plain(file.name[:80])}.", found
        )
        st.session_state[f"{_CHOSEN}-next"] = key

    st.file_uploader(
        "A compare.json that `cahp compare --out DIR` wrote", type=["json"], key="compare-file", on_change=brought
    )
    if "compare-trouble" in st.session_state:
        with st.container(key="compare-trouble-place"):
            shell.problem(st.session_state["compare-trouble"])
    st.caption("It stays in this session.")


def _nothing(explorer: Explorer) -> None:
    with st.container(key="compare-nothing"):
        st.markdown(
            "A fair answer holds methods under the same rules: the same texts, the same number of heads, the same "
            "recovery, and differences that pass a test. **This copy of the package ships no finished comparison**, "
            "so make one here or at the command line, or open one."
        )
        st.code("cahp compare --out comparison", language="bash")
        st.caption("That takes minutes, writes `comparison/compare.json`, and goes on where it stopped.")
        _uploader()
        compare_own.draw(explorer, _keep)


def _asked(found: Reading) -> str:
    tests = (
        f" The test split was opened {found.test_opened} time{'' if found.test_opened == 1 else 's'} for this model."
        if found.test_opened
        else ""
    )
    rule = (
        "" if not found.verdicts else f" {plain(found.rule[:400].replace(found.against, found.named(found.against)))}"
    )
    return (
        f"{found.select:,} texts choose, {found.n:,} texts of {plain(found.split[:40])} judge, {found.seeds} "
        f"seed{'' if found.seeds == 1 else 's'}.{rule}{tests}"
    )


# Filters, which live in the address --------------------------------------------------------------------------


def _filters(found: Reading) -> _View:
    _wish("recovery", "compare-recovery", found.recoveries, found.recoveries[0])
    by_name = {str(budget): budget for budget in found.budgets}
    # At the smallest the layers' floor may leave nothing to choose, and at the largest hardly anything is gone.
    usual = list(by_name)[(len(by_name) - 1) // 2]
    _wish("at", "compare-budget", list(by_name), usual)
    named = [name for name in st.query_params.get("methods", "").split(",") if name in found.methods]
    shown = st.session_state.get("compare-methods")
    if shown is None or not set(shown) <= set(found.methods):
        st.session_state["compare-methods"] = list(dict.fromkeys(named))
    recover, heads, which = st.columns([8, 7, 8], vertical_alignment="top", gap="medium")
    with recover:
        recovery = st.segmented_control(
            "Recovery",
            found.recoveries,
            required=True,
            format_func=lambda name: _RECOVERIES[name],
            key="compare-recovery",
            help="All methods get the same recovery. Refit solves for the output projections of the heads that stay; "
            "fine-tuning trains on.",
        )
    with heads:
        # More than a few would not fit on one line.
        pick: Any = st.segmented_control if len(by_name) <= 6 else st.selectbox
        options = {"required": True} if len(by_name) <= 6 else {}
        budget = pick(f"Heads kept, of {found.total}", list(by_name), key="compare-budget", **options)
    with which:
        methods = st.multiselect(
            "Methods",
            list(found.methods),
            format_func=found.named,
            key="compare-methods",
            placeholder=f"All {len(found.methods)}",
            help="The tests stay as they were made, over all methods.",
        )
    recovery, budget = recovery or found.recoveries[0], budget or usual
    _tell("recovery", recovery, found.recoveries[0])
    _tell("at", budget, usual)
    _tell("methods", ",".join(methods), "")
    order = sorted(found.methods, key=lambda name: name != found.against)
    return _View(recovery, by_name[budget], tuple(name for name in order if not methods or name in methods))


def _wish(name: str, key: str, options: Sequence[str], usual: str) -> None:
    """Give a filter the value that the address names, or the usual one, unless it has a possible one already."""
    if st.session_state.get(key) not in options:
        wished = st.query_params.get(name)
        st.session_state[key] = wished if wished in options else usual


def _tell(name: str, value: str, usual: str) -> None:
    """Put a filter into the address, or take it out where it says nothing."""
    if value == usual:
        st.query_params.pop(name, None)
    elif st.query_params.get(name) != value:
        st.query_params[name] = value


# What came of it ---------------------------------------------------------------------------------------------


def _accuracy(found: Reading, view: _View) -> None:
    shown = [
        (name, budget, found.means[view.recovery, name, budget])
        for name in view.methods
        for budget in found.budgets
        if (view.recovery, name, budget) in found.means
    ]
    if not shown:
        st.info("None of these methods was measured this way. Choose others above.")
        return
    charts.show(
        accuracy_figure(found, view.recovery, view.methods, dark=palette.dark()),
        title=_accuracies(found, view),
        help=(
            f"Right answers on {found.n:,} texts that chose nothing. Each line is a method, the mean over "
            f"{found.seeds} seeds (a method of chance: over many masks). **Bands** are 95 % intervals of a bootstrap "
            "over texts and seeds; they overlap more than differences do, because all methods answer the same texts, "
            "so read differences below. With more than eight methods only the reference and one of chance have "
            "bands; point at the others. Grey lines are chance, and methods beyond eight hues: dashes and markers "
            "tell them apart. Lines between budgets are drawn, not measured."
        ),
        formula=_INTERVAL,
        name="compare-accuracy",
        alt=" ".join(
            f"{found.named(name)} at {budget} heads: {percent(mean.accuracy)}." for name, budget, mean in shown[:40]
        ),
        data={
            "method": [name for name, _, _ in shown],
            "heads": [budget for _, budget, _ in shown],
            "recovery": [view.recovery] * len(shown),
            "accuracy": [mean.accuracy for _, _, mean in shown],
            "low": [mean.low for _, _, mean in shown],
            "high": [mean.high for _, _, mean in shown],
            "macro F1": [mean.macro_f1 for _, _, mean in shown],
            "agreement": [mean.agreement for _, _, mean in shown],
            "n": [mean.n for _, _, mean in shown],
            "seeds": [mean.seeds for _, _, mean in shown],
            "masks": [mean.masks for _, _, mean in shown],
        },
    )


def _accuracies(found: Reading, view: _View) -> str:
    means = [
        found.means[view.recovery, name, view.budget].accuracy
        for name in view.methods
        if (view.recovery, name, view.budget) in found.means
    ]
    when = AFTER[view.recovery].capitalize()
    if not means:
        return f"{when}, nothing was measured at {view.budget} heads"
    span = f"{100 * min(means):.1f} to {100 * max(means):.1f} %"
    if len(means) == 1:
        span = percent(means[0])
    return (
        f"{when}, {view.budget} of {found.total} heads give {span} right answers; all heads give "
        f"{percent(found.full['none'])}"
    )


def _differences(found: Reading, view: _View) -> None:
    everywhere = [
        one for one in (*found.overall, *found.verdicts) if one.recovery == view.recovery and one.method in view.methods
    ]
    tests = [one for one in everywhere if one.budget == view.budget]
    if not tests:
        return
    ours = found.named(found.against)
    # Of all methods, as they were tested, whichever are shown.
    at = [one for one in found.verdicts if (one.recovery, one.budget) == (view.recovery, view.budget)]
    said = phrase(found, at)
    charts.show(
        difference_figure(found, tests, dark=palette.dark()),
        title=f"At {view.budget} heads, {AFTER[view.recovery]}, {said}",
        help=(
            f"Points are {ours}'s accuracy minus the other method's on the same texts, lines 95 % intervals. **Solid** "
            "points passed the test, **hollow** ones are no difference at this n: more texts or seeds might find one. "
            "The test is a paired bootstrap over texts and seeds; p is corrected by Holm over all budgets and methods "
            "after this recovery, so an interval may leave out 0 and still be a tie."
        ),
        formula=_TEST,
        name="compare-differences",
        alt=" ".join(words(found, one) for one in tests[:30]),
        data={
            "method": [one.method for one in tests],
            "reference": [found.against] * len(tests),
            "heads": [one.budget for one in tests],
            "recovery": [one.recovery for one in tests],
            "points": [one.pp for one in tests],
            "low": [one.low for one in tests],
            "high": [one.high for one in tests],
            "p": [one.p for one in tests],
            "p (Holm)": [one.p_holm for one in tests],
            "better": [one.better or "no difference" for one in tests],
            "n": [one.n for one in tests],
            "seeds": [one.seeds for one in tests],
        },
    )
    with st.expander(f"All {len(everywhere)} tests {AFTER[view.recovery]}, in words", key="compare-words"):
        ordered = sorted(everywhere, key=lambda one: (one.tie, one.budget or 0, -abs(one.pp)))
        st.markdown("\n".join(f"- {plain(words(found, one))}" for one in ordered))


def _layers(found: Reading, view: _View) -> None:
    shown = by_depth(found, view.budget, view.methods)
    if not shown:
        return
    depths = {name: towards_output(found.layers[name, view.budget]) for name in shown}
    charts.show(
        layer_figure(found, view.budget, view.methods, dark=palette.dark()),
        title=_depths(found, depths),
        help=(
            "Heads that each method keeps in each layer, the mean over its masks. The triangle is the mean layer of "
            "what it keeps, the dashed line where an even spread would put it; methods nearest the output are on top. "
            "**Proximity bias** is the claim that a score prefers heads because of where they sit, near the output or "
            "near the input, rather than for what they do: its row would be dark at one end. The floor of heads "
            "in each layer holds for all."
        ),
        formula=_DEPTH,
        name="compare-layers",
        alt=" ".join(f"{found.named(name)}: mean layer {depth:.1f}." for name, depth in depths.items()),
        data={
            "method": shown,
            "mean layer": list(depths.values()),
            **{
                f"layer {layer}": [found.layers[name, view.budget][layer] for name in shown]
                for layer in range(found.layers_of_model)
            },
        },
    )


def _depths(found: Reading, depths: dict[str, float]) -> str:
    even = (found.layers_of_model - 1) / 2
    first, last = max(depths, key=lambda name: depths[name]), min(depths, key=lambda name: depths[name])
    if len(depths) == 1:
        return f"{found.named(first)} keeps heads of mean layer {depths[first]:.1f}; an even spread has {even:.1f}"
    if depths[first] - depths[last] < 0.05:
        return f"All keep heads of mean layer {depths[first]:.1f}; an even spread has {even:.1f}"
    return (
        f"{found.named(first)} keeps heads nearest the output (mean layer {depths[first]:.1f}), "
        f"{found.named(last)} nearest the input ({depths[last]:.1f}); an even spread has {even:.1f}"
    )


def _consensus(found: Reading, view: _View) -> None:
    consensus = found.consensus.get(view.budget)
    if consensus is None:
        return
    layers, heads = consensus.share.shape
    everybody, nobody = set(consensus.everybody), set(consensus.nobody)
    places = [(layer, head) for layer in range(layers) for head in range(heads)]
    charts.show(
        consensus_figure(found, consensus, dark=palette.dark()),
        title=(
            f"{_heads(len(everybody))} kept by all {consensus.methods} methods that choose, {len(nobody)} of "
            f"{found.total} by none"
        ),
        help=(
            "Each cell is a head; its number is the share of methods that keep it, in per cent, counted over all their "
            "masks. **Framed**: every method keeps it with every seed. **×**: none ever does. Methods of pure chance "
            "are left out, and the filter of methods does not change this chart."
        ),
        name="compare-consensus",
        alt=(f"Kept by all: {_places(consensus.everybody)}. Kept by none: {_places(consensus.nobody)}."),
        data={
            "layer": [layer for layer, _ in places],
            "head": [head for _, head in places],
            "share of methods": [float(consensus.share[place]) for place in places],
            "kept by": ["all" if place in everybody else "none" if place in nobody else "some" for place in places],
        },
    )


def _heads(count: int) -> str:
    return "No head is" if not count else "1 head is" if count == 1 else f"{count} heads are"


def _places(heads: Sequence[tuple[int, int]]) -> str:
    if not heads:
        return "none"
    return ", ".join(f"layer {layer} head {head}" for layer, head in heads[:40])


def _overlap(found: Reading, view: _View) -> None:
    there, values = overlap_table(found, view.budget, view.methods)
    mean = mean_overlap(values)
    if mean is None:
        return
    chance = found.chance[view.budget]
    charts.show(
        overlap_figure(found, view.budget, view.methods, dark=palette.dark()),
        title=(
            f"Two methods share {percent(mean, 0)} of their heads on average; random choices would share "
            f"{percent(chance, 0)}"
        ),
        help=(
            "The Jaccard index: heads that both keep, of those that at least one keeps, for masks of the same seed, "
            f"the mean over seeds. At {view.budget} of {found.total} heads two random sets share {chance:.2f} on "
            "average, exactly: the colour starts there, and ↓ marks less. The diagonal holds a method against itself "
            "with another seed: how much of a choice is the sample's. An empty cell was not measured."
        ),
        formula=_JACCARD,
        name="compare-overlap",
        alt=" ".join(
            f"{found.named(one)} and {found.named(other)}: {value:.2f}."
            for row, one in enumerate(there[:12])
            for column, other in enumerate(there[:12])
            if row <= column and (value := values[row][column]) is not None
        ),
        data={
            "method": [one for one in there for _ in there],
            "other": [other for _ in there for other in there],
            "overlap": [value for row in values for value in row],
            "by chance": [chance] * len(there) ** 2,
        },
    )


def _cost(found: Reading, view: _View) -> None:
    shown = [name for name in view.methods if name in found.cost]
    if not shown:
        return
    costs = [found.cost[name] for name in shown]
    areas = [found.areas.get((view.recovery, name)) for name in shown]
    table: dict[str, list[Any]] = {"Method": [found.named(name) for name in shown]}
    if any(areas):
        table["Accuracy (%)"] = [None if area is None else _share(*area) for area in areas]
    elif len(measured := {budget for recovery, _, budget in found.means if recovery == view.recovery}) == 1:
        (budget,) = measured
        means = [found.means.get((view.recovery, name, budget)) for name in shown]
        table[f"Accuracy at {budget} heads (%)"] = [
            None if mean is None else _share(mean.accuracy, mean.low, mean.high) for mean in means
        ]
    table |= {
        "Forward passes": [None if cost.forwards is None else round(cost.forwards) for cost in costs],
        "Labels": [cost.labels for cost in costs],
        "Choosing (s)": [cost.score_s for cost in costs],
    }
    for recovery in found.recoveries:
        if recovery != "none":
            table[f"{_REPAIRS[recovery]} (s)"] = [cost.recovery_s.get(recovery) for cost in costs]
    with st.container(key="figure-compare-cost"):
        charts.heading(
            _costs(found, shown),
            help=(
                "A **forward pass** is one text through the full model (a backward pass counts as two), as if nothing "
                "were known beforehand: it compares methods. **Seconds** are what this comparison took for the "
                "costliest budget, and evidence that another method had gathered before took none, so they do not. "
                "**Labels** are labelled texts that a method needs. The **accuracy** is the mean over all budgets, "
                f"that is, the area under the first chart's line over its width ({AFTER[view.recovery]}), with its "
                "95 % interval; methods that were not measured at every budget have none."
            ),
            formula=_AREA if any(areas) else None,
            name="compare-cost",
            data=table,
        )
        st.dataframe(
            table,
            hide_index=True,
            height="content",
            column_config={
                "Forward passes": st.column_config.NumberColumn(format="localized"),
                "Labels": st.column_config.NumberColumn(format="localized"),
                **{name: st.column_config.NumberColumn(format="%.2f") for name in table if name.endswith("(s)")},
            },
        )


def _share(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} ({span(100 * low, 100 * high)})"


def _costs(found: Reading, shown: Sequence[str]) -> str:
    known = {name: forwards for name in shown if (forwards := found.cost[name].forwards) is not None}
    if not known:
        return "What choosing costs was not said"
    costliest = max(known, key=lambda name: known[name])
    free = sum(not forwards for forwards in known.values())
    said = f"{found.named(costliest)} costs most to choose: {known[costliest]:,.0f} forward passes"
    return said + (f"; {free} method{'' if free == 1 else 's'} need{'s' if free == 1 else ''} none" if free else "")


def _downloads(found: Reading) -> None:
    with st.container(horizontal=True, key="compare-downloads", gap="small", vertical_alignment="center"):
        st.markdown("**Take it along:**", width="content")
        for label, name, kind in (
            ("Document (JSON)", "compare.json", "application/json"),
            ("Table (CSV)", "comparison.csv", "text/csv"),
        ):
            st.download_button(
                label,
                lambda name=name: found.files[name],
                name,
                kind,
                key=f"compare-get-{name}",
                on_click="ignore",
            )
        st.download_button(
            "All, with figures (ZIP)",
            lambda: found.archive,
            "comparison.zip",
            "application/zip",
            key="compare-get-all",
            on_click="ignore",
        )
    if found.command:
        with st.expander("The command that measures this again", key="compare-command"):
            st.code(found.command[:2000], language="bash", wrap_lines=True)
