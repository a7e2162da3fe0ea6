"""The commands of what features measure, such as ``cahp abilities``: one for all of them."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from cahp.cli.command import FORCE, PLACE, Call, Command, Option, command
from cahp.run.measures import Measure
from cahp.values import JsonObject


def make_command(one: Measure[Any]) -> Command:
    """Return the command that measures one of a mask, and prints its blocks or, with ``--json``, its record."""
    hints = get_type_hints(one.options)
    own = [
        Option(entry.name, entry.metadata.get("help", ""), hints[entry.name], entry.default)
        for entry in fields(one.options)
    ]

    def do(call: Call, mask: Path | None = None, force: bool = False, **given: Any) -> None:
        from cahp.api.evaluate import measure_mask
        from cahp.show.terminal import lines

        settings = call.settings
        record, subject = call.run(measure_mask, one, settings, mask, options=one.options(**given), force=force)
        document: JsonObject = {"model": settings.model}
        if one.of_mask:
            document["recover"] = settings.recover
        document |= one.to_json(record)
        call.answer(document, lines(one.show(record, subject)))

    do.__name__ = one.name
    do.__doc__ = one.help
    example = one.example or f"cahp {one.name} run"
    about: tuple[str | Option, ...] = ()
    if one.of_mask:
        about = ("mask", FORCE)
    return command(PLACE, *about, *own, example=example, settings_of=one.takes)(do)
