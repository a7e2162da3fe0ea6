"""``cahp report``: a run's folder as one HTML file."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Call, command
from cahp.cli.options import OPTIONS, REQUIRED, Option
from cahp.costs import KWH_PRICE, WATTS

_RUN = Option("run", "The folder that `cahp prune --out` wrote.", Path, REQUIRED, argument=True)
_OUT = OPTIONS["out"].but(help="The HTML file; without: report.html in the run's folder.")
_STATIC = Option("static", "Without the board that answers, for mail that forbids scripts.", bool, False, ("--static",))


_WATTS = Option("watts", "What the machine draws while it computes, to say energy.", float, WATTS, ("--watts",))
_PRICE = Option("price", "Of a kilowatt-hour, in any currency, to say money.", float, KWH_PRICE, ("--price",))


@command(_RUN, _OUT, "force", _STATIC, _WATTS, _PRICE, "as_json")
def report(call: Call, run: Path, out: Path | None, force: bool, static: bool, watts: float, price: float) -> None:
    """Write a run as one HTML file that opens offline, prints, and answers while its budget is dragged."""
    from datetime import date

    from cahp.export.real_world import Assumptions
    from cahp.export.run_files import read_run
    from cahp.export.run_report import live_of, run_report, write_report

    assumed = Assumptions(watts, price)
    files = read_run(run)
    text = run_report(files, day=date.today(), static=static, assumed=assumed)
    file = write_report(
        text, (run if run.is_dir() else run.parent) / "report.html" if out is None else out, force=force
    )
    live = None if static else live_of(files)
    measured, budgets = (None, None) if live is None else live.table.measured()
    found = {"file": str(file), "bytes": len(text.encode()), "answers": live is not None}
    said = "a still report" if live is None else f"its board answers at {measured} of {budgets} budgets"
    call.answer(
        {**found, "measured": measured, "budgets": budgets},
        [f"wrote {file} ({len(text.encode()) / 1e3:.0f} kB): {said}"],
    )
