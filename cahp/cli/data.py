"""``cahp data``: which data sets there are, and what is in one."""

from __future__ import annotations

from dataclasses import asdict

from cahp.cli.command import Call, command
from cahp.cli.options import Option
from cahp.run.settings import COLUMNS

_NAME = Option("name", "Data to look at before it is used.", argument=True)


@command(_NAME, *COLUMNS, "as_json", "yes")
def data(call: Call, name: str | None) -> None:
    """List the data sets known by name, or say what is in one."""
    from cahp import data
    from cahp.terminal.printing import contents

    if name is None:
        entries = data.catalogue()
        missing = {"built-in": "  (not installed)", "preset": "  (read from the hub)"}
        call.answer(
            [asdict(one) for one in entries],
            [f"{one.name:<14}{one.description}{'' if one.available else missing[one.kind]}" for one in entries],
        )
        return
    settings = call.settings
    dataset = data.load(name, **settings.columns)
    splits = {
        split: {
            "examples": len(texts),
            "class_counts": dict(zip(texts.classes, texts.class_counts.tolist(), strict=True)),
        }
        for split, texts in dataset.splits.items()
    }
    found = {"id": dataset.id, "pairs": dataset.pairs, "splits": splits, "notices": list(dataset.notices)}
    call.answer(found, contents(found))
