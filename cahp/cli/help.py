"""The help of a command: its options in sections. ``--help`` lists the common ones, ``--help-all`` all."""

from __future__ import annotations

from typing import Any, get_args

import typer
from typer.core import TyperCommand

from cahp import methods
from cahp.run.settings import Section

_LAST = get_args(Section)[-1]


class SectionedCommand(TyperCommand):
    """A command whose help has sections, and in whose options ``{methods}`` stands for the names of all methods."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {section: [] for section in get_args(Section)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                option, help = record
                if "{methods}" in help:
                    # The names wait for a help that shows them, because methods are imported for them.
                    help = help.replace("{methods}", ", ".join(methods.names()))
                section = getattr(parameter, "rich_help_panel", None) or _LAST
                # An argument's name says enough without its type.
                sections[section].append((option.split(" <")[0], help))
        for section, rows in sections.items():
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example, and where the other options are."""
        super().format_epilog(ctx, formatter)
        if any(getattr(parameter, "hidden", False) for parameter in self.params):
            formatter.write(f"\n  All options: {ctx.command_path} --help-all\n")


def show_all(context: typer.Context, wanted: bool) -> None:
    """Print the help with all options, and exit."""
    if wanted:
        for parameter in context.command.params:
            parameter.hidden = False  # type: ignore[attr-defined]
        typer.echo(context.get_help())
        raise typer.Exit
