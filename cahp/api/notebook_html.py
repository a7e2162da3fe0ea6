"""Results as a notebook shows them without any widget: HTML that loads nothing and runs nothing."""

from __future__ import annotations

from cahp.comparison import SplitResults
from cahp.comparison.sentences import after, method_label
from cahp.comparison.summary import Mean
from cahp.exports.drawings import STYLE, Clusters, grid, table
from cahp.exports.report import verdict
from cahp.exports.report_figures import draw_outcomes
from cahp.run.prune import Run
from cahp.words import percent, safe

# The report's style, for the inside of one cell: its page's own colours come from the notebook's theme.
_STYLE = (
    ".cahp-cell{--ink:currentColor;--faint:color-mix(in srgb,currentColor 65%,transparent);--ground:transparent;"
    "--rule:color-mix(in srgb,currentColor 20%,transparent);--accent:#2b7f95;max-width:46rem;"
    f"{STYLE}}}"
)


def cell(*parts: str) -> str:
    """Parts of HTML as the output of a cell."""
    return f'<div class="cahp-cell"><style>{_STYLE}</style>{"".join(parts)}</div>'


def run_html(run: Run) -> str:
    """A run: what pruning did in words, which heads stay, and the figures with their intervals."""
    document = run.document
    return cell(
        f"<p>{safe(verdict(document))}</p>",
        grid(run.mask, Clusters.of(run.arrays["labels"])),
        *draw_outcomes(f"On {document.data.eval.split}", document.outcomes),
        *(f"<p class=note>{safe(notice)}</p>" for notice in document.notices),
    )


def comparison_html(results: SplitResults) -> str:
    """A comparison: accuracy of every method at every budget, after each recovery."""
    parts = []
    for recovery in results.recoveries:
        budgets = results.budgets_after(recovery)
        rows = [
            (method_label(name), [_share(results.means.get((recovery, name, at))) for at in budgets])
            for name in results.methods
        ]
        caption = (
            f"Accuracy on {results.split} {after(recovery)}, n = {results.n:,}, all heads "
            f"{percent(results.full['none'])}; with 95 % intervals"
        )
        parts.append(table(caption, [f"{budget} heads" for budget in budgets], rows))
    notes = (results.rule, *results.document.notices)
    return cell(f"<p>{safe(results.title)}</p>", *parts, *(f"<p class=note>{safe(note)}</p>" for note in notes))


def _share(mean: Mean | None) -> str:
    return "–" if mean is None else f"{mean.accuracy.text} {mean.accuracy.interval}"
