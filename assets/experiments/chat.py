"""Talk to a model that was pruned: it answers beside the model with all heads.

    cahp chat cahp-run
    cahp chat cahp-run --text "Why is the sky blue?" --json

``cahp-run`` is the folder of a run of a language model. Each model reads the conversation with its own answers, by the
chat template of its tokenizer where there is one. The answer of all heads comes first. In that of the kept heads, what
follows the first difference is underlined in a terminal, and elsewhere begins after a mark.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from _settings import print_result

from cahp import open_bench
from cahp.api.options import find_run, use_mask
from cahp.models import continue_greedily
from cahp.models.head_model import HeadModel
from cahp.run.recoveries import cut_model
from cahp.stages.similarity import read_tokens
from cahp.terminal.progress import bars
from cahp.values import OptionError

#: Most tokens of an answer.
TOKENS = 120
#: Stands before the first word that differs where nothing can be underlined.
DIFFERS = "▸"
_UNDERLINE = "\033[4m"
_PLAIN = "\033[0m"
#: What a tokenizer shows of a character whose last bytes are still to come.
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


@dataclass
class Conversation:
    """What was said to a model, and what it answered."""

    model: HeadModel
    turns: list[dict[str, str]] = field(default_factory=list)

    def answer(self, text: str, count: int = TOKENS) -> Iterator[str]:
        """Yield the parts of the answer to ``text`` as they come: at most ``count`` tokens, to the end of the turn."""
        self.turns.append({"role": "user", "content": text})
        tokenizer = self.model.tokenizer
        ids: list[int] = []
        said = ""
        for token in continue_greedily(self.model, self.read_turns(), count):
            if token == tokenizer.eos_token_id:
                break
            ids.append(token)
            decoded = tokenizer.decode(ids)
            if not decoded.endswith(_INCOMPLETE):
                yield decoded[len(said) :]
                said = decoded
        self.turns.append({"role": "assistant", "content": said})

    def read_turns(self) -> list[int]:
        """Return the tokens of all turns, and of what begins an answer."""
        tokenizer = self.model.tokenizer
        if tokenizer.chat_template:
            ids: list[int] = tokenizer.apply_chat_template(self.turns, add_generation_prompt=True, return_dict=False)
            return ids
        encoded, _, _ = read_tokens(self.model, "".join(turn["content"] for turn in self.turns))
        return list(encoded["input_ids"])


def open_pair(place: str) -> tuple[Conversation, Conversation]:
    """Open a conversation with the model of a run, and one with its kept heads after the run's recovery.

    Raises:
        CahpError: If it is no run of a language model.
    """
    run = find_run(place)
    if run is None:
        raise OptionError(f"{place} is not the folder of a run; make one with `cahp prune --out {place}`")
    with bars(quiet=False) as progress:
        bench = open_bench(run.settings, progress=progress)
        if not bench.card.task.predicts_often:
            raise OptionError(f"{bench.card.id} names a class and does not write; give a run of a language model")
        mask = use_mask(bench.card, run.mask)
        settings = bench.settings
        recovered = bench.recoveries.recover(mask, settings.recover, seconds=settings.recover_seconds)
        pruned = cut_model(bench.model, mask, recovered)
    return Conversation(bench.model), Conversation(pruned)


def talk(pair: tuple[Conversation, Conversation], text: str, count: int) -> dict[str, str]:
    """Print both answers to a text as they come; return the text and the answers."""
    print("all heads   ", end="")
    full = ""
    for part in pair[0].answer(text, count):
        full += part
        print(part, end="", flush=True)
    mark, end = f"{DIFFERS} ", ""
    if sys.stdout.isatty():
        mark, end = _UNDERLINE, _PLAIN
    print("\nkept heads  ", end="")
    pruned = ""
    for part in pair[1].answer(text, count):
        differed = not full.startswith(pruned)
        pruned += part
        if not differed and not full.startswith(pruned):
            print(mark, end="")
        print(part, end="", flush=True)
    print(f"{end}\n", flush=True)
    return {"text": text, "full": full, "pruned": pruned}


def read_lines() -> Iterator[str]:
    """Yield the lines that a person types or a file holds, until the end of the input; empty ones are left out."""
    if sys.stdin.isatty():
        print("Write a line; Ctrl+D ends.", file=sys.stderr)
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Talk, line by line."""
    parser = argparse.ArgumentParser(prog="cahp experiment chat", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a run of a language model")
    parser.add_argument("--text", action="append", help="say this and end; may be repeated (default: read lines)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"most tokens of an answer (default: {TOKENS})")
    parser.add_argument("--json", action="store_true", help="print both answers as JSON")
    options = parser.parse_args(arguments)
    if options.tokens < 1:
        raise SystemExit(f"--tokens {options.tokens} is out of range; an answer has at least one")
    pair = open_pair(options.run)
    answers = []
    for text in options.text or read_lines():
        if options.json:
            full, pruned = ("".join(each.answer(text, options.tokens)) for each in pair)
            answers.append({"text": text, "full": full, "pruned": pruned})
        else:
            answers.append(talk(pair, text, options.tokens))
    if options.json:
        print_result({"schema": "cahp.chat/1", "answers": answers}, [], as_json=True)


if __name__ == "__main__":
    main()
