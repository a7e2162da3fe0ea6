"""The command ``cahp peers``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cahp.cli.command import OPTIONS, Call, Option, command, optional_file
from cahp.files import Content, json_text
from cahp.values import OptionError


@command(
    OPTIONS["model"].but(default="smollm2", fills=False, argument=True),
    Option("seeds", "Seeds of the calibration texts, separated by commas.", str, "42,43,44", values="A,B,..."),
    Option("only", "Peers to measure, separated by commas (default: all).", str, values="A,B,..."),
    Option("timed", "Time what is faster.", bool, True, ("--timed/--no-timed",)),
    Option("out", "JSON file to write; the values of all documents are written beside it.", Path),
    "force",
    Option("merged", "Folder to write: a plain checkpoint with all key-value heads merged, after quick refit.", Path),
    example="cahp peers smollm2 --out peers.json",
)
def peers(
    call: Call,
    model: str,
    seeds: str,
    only: str | None,
    timed: bool,
    out: Path | None,
    force: bool,
    merged: Path | None,
) -> None:
    """Compare ways to shrink a language model's cache.

    Removed groups, dropped layers, merged heads, fewer bits and streaming heads,
    at equal bytes of the cache and with their weights and speed.
    """
    from cahp.features.peers import use_case
    from cahp.features.peers.lines import peers_lines
    from cahp.features.peers.result import pack_arrays

    names = None
    if only is not None:
        names = tuple(only.split(","))
    if out is not None and out.suffix.lower() == ".npz":
        raise OptionError(f"--out names the JSON file, and the values stand beside it in .npz; name it {out.stem}.json")
    settings = replace(call.settings, model=model)
    with optional_file(out, force, "cahp.peers", beside=[".npz"]) as output:
        with call.bars(lines=True) as progress:
            document, measured = use_case.measure(
                settings,
                seeds=_read_seeds(seeds),
                names=names,
                timed=timed,
                merged=merged,
                store=call.store,
                progress=progress,
            )
        content = document.to_json()
        lines = [*peers_lines(document)]
        if output is not None and out is not None:
            arrays = pack_arrays(measured)
            files: dict[str, Content] = {
                out.name: json_text(content).encode(),
                out.with_suffix(".npz").name: lambda file: np.savez_compressed(file, allow_pickle=False, **arrays),
            }
            with call.keeping(content, lines):
                output.write(files)
    call.answer(content, lines)


def _read_seeds(seeds: str) -> tuple[int, ...]:
    try:
        numbers = tuple(dict.fromkeys(int(seed) for seed in seeds.split(",")))
    except ValueError:
        raise OptionError(f"--seeds takes numbers separated by commas, such as 42,43,44, not {seeds!r}") from None
    return numbers
