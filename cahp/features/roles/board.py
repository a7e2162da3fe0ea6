"""What the board of the explorer shows of heads: their roles, and what they attend to."""

from __future__ import annotations

from contextlib import suppress
from operator import attrgetter

from cahp.api import bundled
from cahp.features.roles.colourings import BY_ROLE, MAPS
from cahp.features.roles.habits import TEXTS, HeadHabits, HeadMaps, head_habits, kept_habits, read_maps
from cahp.run.bench import Bench
from cahp.ui.frame.panels import BoardColouring
from cahp.ui.session.estimates import pass_seconds
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import ROLES, Kind
from cahp.values import CahpError
from cahp.values.head_roles import HeadRoles


def _estimate_habits(bench: Bench) -> float:
    """Estimate the seconds of measuring what the heads attend to."""
    with suppress(CahpError):
        # Windows of a bundled run cannot be read without its texts; the measurement itself says so.
        if kept_habits(bench) is not None:
            return 0.0
    return pass_seconds(bench, evaluation=min(1.0, TEXTS / len(bench.evaluation)))


#: Measure what the heads attend to.
HABITS: Kind[Bench, HeadHabits] = Kind(
    lambda bench, _: head_habits(bench),
    lambda bench: f"habits-{bench.card.sha256[:16]}-{bench.evaluation.sha256[:16]}",
    awaited=False,
    seconds=_estimate_habits,
)
#: The name under which maps are kept with the results.
_MAPS = "roles.maps"


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


ATTENTION: BoardColouring[HeadMaps] = BoardColouring(MAPS, known_maps)
ROLE: BoardColouring[HeadRoles] = BoardColouring(BY_ROLE, attrgetter("roles"), ROLES, opens=True)
