"""The mask on the board with its measurements, and the job that measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from cahp import features
from cahp.api.bundled import Bundle
from cahp.board.budget_sweep import own_speed
from cahp.exports.report import recipe
from cahp.files import plain_json
from cahp.models.cards import Costs
from cahp.recoveries import NONE
from cahp.run.document import BY_HAND, RunDocument, machine
from cahp.run.measures import MaskSubject, Measure, find_lines, put_record, remove_recovery
from cahp.run.prune import measure_mask
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Rank
from cahp.ui.session.work import BoardState, Kind, measure_costs
from cahp.values import HeadMask, Ints, Progress, Selection
from cahp.values.statistics import Clustering


@dataclass(frozen=True, eq=False)
class View:
    """The mask on the board and its run, a document of ``cahp.run/1``; None until it is measured.

    ``bundle`` is the bundled run, if the document is of it.
    """

    mask: HeadMask
    labels: Ints | None
    document: RunDocument | None
    arrays: Mapping[str, NDArray[Any]]
    bundle: Bundle | None = None


def on_board(explorer: Explorer) -> View:
    """Return the mask on the board with the run that measured it, on screen or here."""
    mask = explorer.mask
    results = explorer.results
    clusters = explorer.clusters
    labels = None
    if clusters is not None:
        labels = explorer.board.labels
    run = _run_on_screen(explorer)
    arrays = dict(results.arrays)
    bundle = results.bundle
    if run is None:
        job = explorer.work.job(MEASURE, MaskOnBoard.of(explorer))
        if job is not None:
            run = job.result
        bundle = None
        if clusters is not None and labels is not None:
            _, medoids = clusters.groups(int(labels.max()) + 1)
            arrays |= {"labels": labels, "medoids": medoids}
    # The latency is the one that the board shows.
    costs = results.costs(mask)
    if run is not None and costs is not None and _replaces_times(costs, run):
        run = run.timed(costs)
        if bundle is not None:
            here = f"the time was measured on {machine()}; the other figures on the machine named in this report"
            run = replace(run, notices=(*run.notices, here))
    if run is not None:
        run = _add_known_records(explorer, run)
    return View(mask, labels, run, arrays, bundle)


def _replaces_times(costs: Costs, run: RunDocument) -> bool:
    """Tell whether the times of a run give way to others: to those of a busy machine only if they are so themselves."""
    if (costs.full, costs.pruned) == (run.cost.full, run.cost.pruned):
        return False
    speed = own_speed(run)
    return not costs.noisy or speed is None or speed.busy


def _add_known_records(explorer: Explorer, run: RunDocument) -> RunDocument:
    """Return the run with what the board shows of the heads, such as their roles, if the run did not measure it."""
    known = {row.colouring.name: row.know(explorer) for row in features.colourings()}
    for one in features.measures():
        record = known.get(one.name)
        if record is None:
            record = _read_record(explorer, one)
        if record is not None and one.read_run(run) is None:
            run = put_record(run, one, record)
    return run


def _read_record(explorer: Explorer, one: Measure[Any]) -> Any:
    """Return what this session measured of the mask on the board (None: nothing)."""
    return explorer.results.records.get((one.name, explorer.mask.sha256, explorer.recovery.name))


def list_findings(explorer: Explorer, view: View, recover: str) -> tuple[str, ...]:
    """Return a line for each measure that says something of the mask on the board with a recovery.

    Another recovery than that of the board has no line.
    """
    if recover != explorer.recovery.name:
        return ()
    content: dict[str, Any] = {}
    if view.document is not None:
        content.update(view.document.sections)
    for one in features.measures():
        record = _read_record(explorer, one)
        if record is not None and content.get(one.name) is None:
            content[one.name] = plain_json(one.to_json(record))
    return tuple(find_lines(features.measures(), content, MaskSubject(view.mask, recover)))


def _run_on_screen(explorer: Explorer) -> RunDocument | None:
    """Return the run on screen if it measured this mask with the recovery of the board, without other recoveries."""
    run = explorer.results.run
    if run is None or explorer.board.by_hand or run.mask.sha256 != explorer.mask.sha256:
        return None
    if explorer.recovery.name == NONE.name:
        # Otherwise the report would describe a model that is neither on the board nor exported.
        return remove_recovery(features.measures(), run.as_pruned(command=recipe))
    if run.settings.recover != explorer.recovery.name or "recovered" not in run.outcomes:
        return None
    return run


def chosen_by(explorer: Explorer) -> str:
    """Return the method that selected the heads on the board, or that they were chosen by hand."""
    board = explorer.board
    if board.by_hand:
        return board.method or BY_HAND
    return explorer.settings.method


def name_of(explorer: Explorer) -> str:
    """Return a name for the work of a job: the model, the texts, the mask and its recovery."""
    bench = explorer.bench
    digests = (explorer.card.sha256, bench.calibration.sha256, bench.evaluation.sha256, explorer.mask.sha256)
    origin = "hand" if explorer.board.by_hand else "budget"
    return "-".join((*digests, explorer.recovery.name, origin))


@dataclass(frozen=True, eq=False)
class MaskOnBoard:
    """The board of a moment, and how its mask was chosen; ``name`` names it."""

    name: str
    board: BoardState
    selection: Selection | None
    clustering: Clustering | None

    @classmethod
    def of(cls, explorer: Explorer) -> MaskOnBoard:
        """Return the present one."""
        selection = explorer.board.selection
        clustering = None
        if selection is not None and explorer.clusters is not None:
            clustering = explorer.clusters.clustering
        return cls(name_of(explorer), explorer.board_state(), selection, clustering)


def _measure(subject: MaskOnBoard, _: Progress) -> RunDocument:
    board = subject.board
    return measure_mask(
        board.bench,
        board.mask,
        costs=lambda mask: board.results.costs(mask) or measure_costs(board.bench, board.results, mask),
        command=recipe,
        recover=board.recover,
        selection=subject.selection,
        clustering=subject.clustering,
    )


#: Measure the mask on the board as a run does.
MEASURE: Kind[MaskOnBoard, RunDocument] = Kind(
    _measure, lambda subject: f"export-{subject.name}", Rank.RUN, awaited=False, title="Measurement"
)
