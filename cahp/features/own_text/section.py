"""The same greedy continuation of a prompt by the full, the pruned and the recovered language model, as a measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cahp.models import ModelCard
from cahp.run import Bench, MaskSubject, Measure, NoOptions, Recovered
from cahp.show import Blocks, Table
from cahp.values import HeadMask
from cahp.words import printable

#: The prompt of all models, which is no text of a person, and the tokens that follow.
PROMPT = "The old house at the end of the street had been empty for years. One morning"
TOKENS = 20


@dataclass(frozen=True)
class Continuation:
    """The most probable tokens after a ``prompt``, one after the other, as text, by each model.

    ``first_difference`` holds the index of the first token that differs from the full model's (None: none differs), for
    the ``pruned`` and the ``recovered`` model.
    """

    prompt: str
    full: tuple[str, ...]
    pruned: tuple[str, ...]
    recovered: tuple[str, ...] | None
    first_difference: Mapping[str, int | None]


def find_difference(full: Sequence[int], other: Sequence[int]) -> int | None:
    """Return the index of the first token that differs, as far as both have come (None: none differs)."""
    pairs = enumerate(zip(full, other, strict=False))
    return next((place for place, (expected, token) in pairs if token != expected), None)


#: Stands before the first token that differs from the full model's.
DIFFERS = "▸"


class Continued(Measure[Continuation]):
    """The same text, continued; every run of a language model has it."""

    name = "continuation"
    title = "The same text, continued"
    help = "Let the full and the pruned language model continue the same text."
    record = Continuation
    generated = TOKENS
    commanded = False
    # A person's own text is continued there.
    tabbed = False

    def refuses(self, card: ModelCard) -> str | None:
        """Refuse models that do not predict next tokens."""
        if not card.task.predicts_often:
            return "only a causal language model continues a text"
        return None

    def tokens(self, bench: Bench, options: NoOptions) -> float:
        """Return 0: the prompt is short."""
        return 0.0

    def run(self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: NoOptions) -> Continuation:
        """Continue the prompt by the full, the pruned and the recovered model."""
        from cahp.models import split_text

        written = {
            "full": bench.measurements.continue_text(PROMPT, TOKENS),
            "pruned": bench.measurements.continue_text(PROMPT, TOKENS, mask=mask),
        }
        if recovered is not None:
            written["recovered"] = bench.measurements.continue_text(PROMPT, TOKENS, mask=mask, recovered=recovered)
        texts = {name: split_text(bench.model.tokenizer, ids) for name, ids in written.items()}
        differences = {name: find_difference(written["full"], ids) for name, ids in written.items() if name != "full"}
        return Continuation(PROMPT, texts["full"], texts["pruned"], texts.get("recovered"), differences)

    def show(self, record: Continuation, subject: MaskSubject) -> Blocks:
        """Yield what each model writes."""
        rows = []
        models = {"full": record.full, "pruned": record.pruned, "recovered": record.recovered}
        for name, tokens in models.items():
            if tokens is None:
                continue
            shown = [printable(token) for token in tokens]
            differs = record.first_difference.get(name)
            if differs is not None:
                shown[differs] = f"{DIFFERS}{shown[differs]}"
            rows.append((name, "".join(shown).strip()))
        yield Table(
            f'continued "{record.prompt}" by the {len(record.full)} most probable tokens, one after the other '
            f"({DIFFERS} before the first that differs)",
            ("model", "continuation"),
            rows,
            name="continuation",
        )

    def as_pruned(self, record: Continuation) -> Continuation:
        """Return it without the recovered model's."""
        return replace(record, recovered=None, first_difference={"pruned": record.first_difference["pruned"]})


CONTINUATION = Continued()
