"""A receipt of abilities in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.features.abilities.receipt import SYMBOLS, name_state, write_chance
from cahp.features.abilities.record import AbilitiesRecord, Ability, AbilityVerdict


def receipt_lines(record: AbilitiesRecord, recover: str) -> Iterator[str]:
    """A receipt as a table: a line for each ability, with the values of each model and the word for it."""
    width = max(len(row.label) for row in record.rows) + 2
    head = f"  {'ability':<{width}}{'full model':>12}{'chance':>9}{'n':>5}"
    for state in record.states:
        head += f"  {name_state(state, recover) + ' (difference, 95 %)':<52}"
    yield head.rstrip()
    for row in record.rows:
        yield _describe_row(row, record.states, width).rstrip()
        yield from _describe_losses(row, recover)
    for state in record.states:
        yield ""
        yield f"  {name_state(state, recover)}: {record.summarise(state)}"
    yield ""
    yield "  words are corrected for the number of abilities (Holm), intervals are not"


def _describe_row(row: Ability, states: tuple[str, ...], width: int) -> str:
    full = ""
    if row.full is not None:
        full = row.full.text
    line = f"  {row.label:<{width}}{full:>12}{write_chance(row):>9}{row.n or '':>5}"
    if row.reason:
        return f"{line}  {SYMBOLS['not measurable']} not measurable: {row.reason}"
    for state in states:
        line += f"  {_describe_verdict(row.get(state)):<52}"
    return line


def _describe_verdict(verdict: AbilityVerdict | None) -> str:
    if verdict is None:
        return ""
    word = f"{SYMBOLS[verdict.word]} {verdict.word}"
    return f"{verdict.value.text:>8}  {word:<17}  {verdict.difference.text} {verdict.difference.interval}"


def _describe_losses(row: Ability, recover: str) -> Iterator[str]:
    """Describe the further means of a row, such as the loss of the second reading."""
    names = {"full": "full model"}
    names |= {state: name_state(state, recover) for state in ("pruned", "recovered")}
    if row.losses and not row.reason:
        values = ", ".join(f"{names[state]} {loss.text}" for state, loss in row.losses.items())
        yield f"    {row.loss_label}, in nats per token: {values}"
