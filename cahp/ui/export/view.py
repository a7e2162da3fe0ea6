"""The mask on the board with its measurements, and the job that measures it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from cahp import features
from cahp.api.bundled import Bundle
from cahp.exports.report import recipe
from cahp.models.cards import Costs
from cahp.recoveries import NONE
from cahp.run.document import BY_HAND, RunDocument, machine
from cahp.run.measures import MaskSubject, find_lines, put_record, remove_recovery
from cahp.run.prune import measure_mask
from cahp.run.recoveries import Recovered
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Rank
from cahp.ui.session.work import Kind, measure_costs
from cahp.values import Arrays, Fields, HeadMask


@dataclass(frozen=True, eq=False)
class View:
    """The mask on the board and its run, a document of ``cahp.run/1``; None until it is measured.

    ``bundle`` is the bundled run, if the document is of it.
    """

    mask: HeadMask
    document: RunDocument | None
    arrays: Arrays
    bundle: Bundle | None = None


def on_board(explorer: Explorer) -> View:
    """Return the mask on the board with the run that measured it, on screen or here.

    The latency is the one that the board shows, unless the machine was busy, and the records are those of this session.
    """
    mask = explorer.mask
    results = explorer.results
    run = _run_on_screen(explorer)
    arrays = dict(results.arrays)
    bundle = results.bundle
    if run is None:
        job = explorer.work.job(MEASURE, measurement(explorer))
        if job is not None:
            run = job.result
        bundle = None
        clusters = explorer.clusters
        assert clusters is not None
        labels = explorer.board.labels
        _, medoids = clusters.groups(int(labels.max()) + 1)
        arrays |= {"labels": labels, "medoids": medoids}
    if run is None:
        return View(mask, None, arrays)
    costs = results.costs(mask, explorer.recovery.name)
    if costs is not None and not costs.noisy and costs.pruned != run.cost.pruned:
        run = run.timed(costs)
        if bundle is not None:
            here = f"the time was measured on {machine()}; the other figures on the machine named in this report"
            run = replace(run, notices=(*run.notices, here))
    known = {row.name: row.know(explorer) for row in features.colourings()}
    for one in features.measures():
        record = known.get(one.name) or results.records.get((one.name, mask.sha256, explorer.recovery.name))
        if record is not None and one.read_run(run) is None:
            run = put_record(run, one, record)
    return View(mask, run, arrays, bundle)


def list_findings(explorer: Explorer, view: View, recover: str) -> tuple[str, ...]:
    """Return a line for each measure that says something of the mask on the board with a recovery.

    Another recovery than that of the board has no line.
    """
    if recover != explorer.recovery.name:
        return ()
    sections: Fields
    if view.document is not None:
        sections = view.document.sections
    else:
        sections = {}
        for one in features.measures():
            record = explorer.results.records.get((one.name, view.mask.sha256, recover))
            if record is not None:
                sections[one.name] = one.to_json(record)
    return tuple(find_lines(features.measures(), sections, MaskSubject(view.mask, recover)))


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


#: A name, and the work that measures a mask.
Measurement = tuple[str, Callable[[], RunDocument]]


def measurement(explorer: Explorer) -> Measurement:
    """Return the work that measures the mask on the board of this moment as a run does, after its name."""
    board = explorer.board_state()
    selection = explorer.board.selection
    clustering = None
    if selection is not None and explorer.clusters is not None:
        clustering = explorer.clusters.clustering

    def find_costs(recovered: Recovered | None) -> Costs:
        timed = replace(board, recover=NONE.name)
        if recovered is not None and recovered.bypasses:
            timed = board
        return board.results.costs(board.mask, timed.recover) or measure_costs(timed, recovered)

    return name_of(explorer), lambda: measure_mask(
        board.bench,
        board.mask,
        costs=find_costs,
        command=recipe,
        recover=board.recover,
        selection=selection,
        clustering=clustering,
    )


#: Measure the mask on the board; the subject is ``measurement``.
MEASURE: Kind[Measurement, RunDocument] = Kind(
    lambda subject, _: subject[1](),
    lambda subject: f"export-{subject[0]}",
    Rank.RUN,
    awaited=False,
    title="Measurement",
)
