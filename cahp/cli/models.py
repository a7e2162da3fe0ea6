"""``cahp models``: which models there are, and what to know of one before it is used."""

from __future__ import annotations

from cahp.cli.command import Call, command
from cahp.cli.options import Option
from cahp.run.settings import PROMPT

_NAME = Option("name", "A model to look at before it is used.", argument=True)


@command(_NAME, *PROMPT, "as_json")
def models(call: Call, name: str | None) -> None:
    """List the built-in models, or say of one whether it is supported, its heads, memory and expected time."""
    from cahp.models import asked
    from cahp.tasks import inspect

    if name is None:
        entries = inspect.builtins()
        missing = {True: "", False: "  (not installed)"}
        call.answer(entries, [f"{one['name']:<14}{one['description']}{missing[one['available']]}" for one in entries])
    else:
        found = inspect.look(name, prompt=asked(call.settings.prompt, call.settings.answers))
        call.answer(found, inspect.words(found))
