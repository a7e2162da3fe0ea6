"""What the board of the explorer shows of heads: their roles, and what they attend to."""

from __future__ import annotations

from cahp.api import bundled
from cahp.features.roles.colourings import BY_ROLE, MAPS
from cahp.features.roles.habits import HeadHabits, HeadMaps, head_habits, kept_habits, read_maps
from cahp.run.bench import Bench
from cahp.ui.frame.panels import BoardColouring
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job
from cahp.ui.session.work import ROLES, Kind
from cahp.values.head_roles import HeadRoles

#: Measure what the heads attend to.
HABITS: Kind[Bench, HeadHabits] = Kind(
    lambda bench, _: head_habits(bench),
    lambda bench: f"habits-{bench.card.sha256[:16]}-{bench.evaluation.sha256[:16]}",
    awaited=False,
)
#: The name under which maps are kept with the results.
_MAPS = "roles.maps"
#: The name under which a session keeps whether its board was asked to show them.
_SHOWN = "roles.shows_maps"


def known_maps(explorer: Explorer) -> HeadMaps | None:
    """Return what the heads attend to, measured in this session or before, or bundled (None: not measured)."""
    memory = explorer.results.memory
    maps: HeadMaps | None = memory.get(_MAPS)
    if maps is not None:
        return maps
    job = explorer.work.job(HABITS, explorer.bench)
    if job is not None and job.result is not None:
        memory[_MAPS] = HeadMaps.of(job.result)
    elif _MAPS not in memory:
        # Once: a released budget must not wait for the store.
        memory[_MAPS] = _find_maps(explorer)
    return memory.get(_MAPS)


def _find_maps(explorer: Explorer) -> HeadMaps | None:
    bundle = explorer.results.bundle
    if bundle is not None:
        maps = read_maps(bundled.run_folder(bundle.document.model.id))
        if maps is not None:
            return maps
    if not explorer.bench.evaluation.task.items_are_texts:
        # They would have to be cut for it.
        return None
    habits = kept_habits(explorer.bench)
    if habits is None:
        return None
    return HeadMaps.of(habits)


def _know_maps(explorer: Explorer) -> HeadMaps | None:
    """Return the maps once the board was asked to show them: they are large."""
    if not explorer.memory.get(_SHOWN):
        return None
    return known_maps(explorer)


def _show_maps(explorer: Explorer) -> None:
    explorer.memory[_SHOWN] = True


def _find_no_job(explorer: Explorer) -> Job[HeadRoles] | None:
    return None


ATTENTION: BoardColouring[HeadMaps] = BoardColouring(
    MAPS, _know_maps, _show_maps, _find_no_job, is_offered=lambda explorer: known_maps(explorer) is not None
)
ROLE: BoardColouring[HeadRoles] = BoardColouring(
    BY_ROLE,
    lambda explorer: explorer.roles,
    lambda explorer: explorer.work.start(ROLES, explorer.bench),
    lambda explorer: explorer.work.job(ROLES, explorer.bench),
)
