"""``cahp.peers``: other ways to shrink a language model's cache, measured beside removed groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from cahp.api.options import DataOptions, Name, ShowProgress, read_settings, show_progress
from cahp.features.peers.measuring import PeersMeasured, measure_peers, open_benches
from cahp.features.peers.result import PeersDocument, summarise
from cahp.features.peers.table import PEERS, PeerBench, merge_first
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import OptionError, Progress, silent

#: Seeds of the calibration texts.
SEEDS = (42, 43, 44)


def peers(
    model: Name | Settings = "smollm2",
    data: Name | None = None,
    *,
    seeds: Sequence[int] = SEEDS,
    only: Sequence[str] | None = None,
    timed: bool = True,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[DataOptions],
) -> PeersDocument:
    """Compare ways to shrink the cache of a causal language model, at equal bytes.

    ``cahp.peers("smollm2").rows`` has a row for each peer and each share of the cache that is saved.

    Args:
        model: A built-in, a hub id, a folder or a GGUF file; or a ``Settings`` with all options.
        data: Text (None: the data that belong to the model).
        seeds: Seeds of the calibration texts; the evaluation texts are those of the first.
        only: Names of the peers to measure (None: all).
        timed: Also time what is faster.
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp peers``, by the names of ``cahp.Settings``.

    Raises:
        CahpError: If the model is no causal language model with a cache, or there is no such peer.
    """
    settings = read_settings("peers", model, data, options)
    with show_progress(progress, yes=yes) as reporter:
        document, _ = measure(settings, seeds=seeds, names=only, timed=timed, store=store, progress=reporter)
    return document


def measure(
    settings: Settings,
    *,
    seeds: Sequence[int] = SEEDS,
    names: Sequence[str] | None = None,
    timed: bool = True,
    merged: Path | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> tuple[PeersDocument, PeersMeasured]:
    """Measure peers; return the document, and the values that it is made of. An interrupted measurement resumes.

    The model with all layers merged is written into the folder ``merged`` (None: it is not).

    Raises:
        OptionError: If there is no such peer, or the folder has files.
        ModelError: If layers of the model cannot be merged, and a folder is given.
    """
    chosen = tuple(names or PEERS)
    unknown = [name for name in chosen if name not in PEERS]
    if unknown:
        raise OptionError(f"no peer is named {unknown[0]!r}; choose from {', '.join(PEERS)}")
    if merged is not None:
        from cahp.features.peers.saving import check_folder

        check_folder(merged)
    benches = open_benches(settings, seeds, store=store, progress=progress)
    first = benches[seeds[0]]
    measured = measure_peers(benches, names=chosen, timed=timed)
    if merged is not None:
        from cahp.features.peers.saving import write_merged

        every = merge_first(PeerBench(first), first.card.layers)
        write_merged(merged, every.model, first.evaluation.inputs)
    return summarise(first, measured), measured
