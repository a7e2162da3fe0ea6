"""How often methods are right, and which differences are more than chance."""

from __future__ import annotations

import streamlit as st

from cahp.comparison import Reading
from cahp.comparison.sentences import AFTER, called, phrase, told
from cahp.figures.comparison import accuracy_figure, difference_figure
from cahp.ui.compare.view import ComparisonView
from cahp.ui.parts import chart as charts
from cahp.ui.parts import theme
from cahp.ui.parts.once import once
from cahp.ui.parts.text import plain
from cahp.words import percent, span

_INTERVAL = r"\left[q_{2.5},\,q_{97.5}\right]\text{ of }\bar a^{*}\text{ over draws of seeds}\times\text{texts}"
_TEST = r"p=\min\!\left(1,\;2\,\frac{1+\min(\#\{\Delta^*\le 0\},\#\{\Delta^*\ge 0\})}{1+B}\right),\quad B=10\,000"


def draw(found: Reading, view: ComparisonView) -> None:
    """Draw right answers by method and budget, and the tests of their differences."""
    _accuracy(found, view)
    _differences(found, view)


def _accuracy(found: Reading, view: ComparisonView) -> None:
    dark = theme.dark()
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
        once(
            found,
            ("accuracy", view.recovery, view.methods, dark),
            lambda: accuracy_figure(
                found,
                view.recovery,
                view.methods,
                others=[name for name in found.methods if name not in view.methods],
                dark=dark,
            ),
        ),
        title=_accuracies(found, view),
        help=(
            f"Right answers on {found.n:,} texts that chose nothing. Each line is a method, the mean over "
            f"{found.seeds} seeds (a method of chance: over many masks). **Bands** are 95 % intervals of a bootstrap "
            "over texts and seeds; they overlap more than differences do, because all methods answer the same texts, "
            "so read differences below. With more than eight methods only the reference and one of chance have "
            "bands; point at the others. Grey lines are chance, and methods beyond eight hues: dashes, markers and the "
            "names at their ends tell them apart. Methods chosen above stand out; the others stay behind them, faint. "
            "Lines between budgets are drawn, not measured."
        ),
        formula=_INTERVAL,
        name="compare-accuracy",
        alt=" ".join(
            f"{called(name)} at {budget} heads: {percent(mean.accuracy)}." for name, budget, mean in shown[:40]
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


def _accuracies(found: Reading, view: ComparisonView) -> str:
    means = [
        found.means[view.recovery, name, view.budget].accuracy
        for name in view.methods
        if (view.recovery, name, view.budget) in found.means
    ]
    when = AFTER[view.recovery].capitalize()
    if not means:
        return f"{when}, nothing was measured at {view.budget} heads"
    share = percent(means[0]) if len(means) == 1 else f"{span(100 * min(means), 100 * max(means))} %"
    return (
        f"{when}, {view.budget} of {found.total} heads give {share} right answers; all heads give "
        f"{percent(found.full['none'])}"
    )


def _differences(found: Reading, view: ComparisonView) -> None:
    everywhere = [
        one for one in (*found.overall, *found.verdicts) if one.recovery == view.recovery and one.method in view.methods
    ]
    tests = [one for one in everywhere if one.budget == view.budget]
    if not tests:
        return
    ours, dark = called(found.against), theme.dark()
    # Of all methods, as they were tested, whichever are shown.
    at = [one for one in found.verdicts if (one.recovery, one.budget) == (view.recovery, view.budget)]
    said = phrase(found.against, at)
    charts.show(
        once(found, ("differences", view, dark), lambda: difference_figure(found.against, tests, dark=dark)),
        title=f"At {view.budget} heads, {AFTER[view.recovery]}, {said}",
        help=(
            f"Points are {ours}'s accuracy minus the other method's on the same texts, lines 95 % intervals. **Solid** "
            "points passed the test, **hollow** ones are no difference at this n: more texts or seeds might find one. "
            "The test is a paired bootstrap over texts and seeds; p is corrected by Holm over all budgets and methods "
            "after this recovery, so an interval may leave out 0 and still be a tie."
        ),
        formula=_TEST,
        name="compare-differences",
        alt=" ".join(told(one, found.budgets) for one in tests[:30]),
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
        st.markdown("\n".join(f"- {plain(told(one, found.budgets))}" for one in ordered))
