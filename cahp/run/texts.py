"""The texts of a run: read, brought into the order of the model, sampled, or cut into windows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from cahp import data, methods, models
from cahp.files import expanded
from cahp.models.cards import ModelCard
from cahp.models.weights import file_digest
from cahp.recoveries import RECOVERIES
from cahp.run.settings import REPEATS, Mix, Settings
from cahp.tasks.answers import NO_LABEL, REPEATS_TOKENS, Window, WindowProtocol
from cahp.tasks.texts import Item, Texts
from cahp.values import DataError, Notices, OptionError, digest

#: The one class of all windows of a language model.
ALL = ("all texts",)

#: Memory for the full model's last hidden states at the tokens that a pruned one learns.
_STATES_BYTES = 1 << 30


def data_name(settings: Settings, card: ModelCard) -> str:
    """Return the name of the data of ``settings``, or of the data that the built-in model comes with.

    Raises:
        OptionError: If there are no data.
    """
    if settings.data:
        return settings.data
    builtin = models.BUILTINS.get(card.id)
    if builtin is None or builtin.data is None:
        raise OptionError(f"{card.id} has no data of its own; name some with --data")
    return builtin.data


def load_data(settings: Settings, card: ModelCard) -> data.Dataset:
    """Read the data of ``settings``, with labels as they are."""
    return data.load(data_name(settings, card), **settings.columns)


def match_labels(raw: data.Dataset, settings: Settings, card: ModelCard) -> data.Dataset:
    """Bring the labels of data into the model's order.

    Raises:
        DataError, OptionError: If labels do not match, or the prompt is not for such texts.
    """
    if not card.task.items_are_texts:
        return _cut_windows(raw, settings, card)
    check_texts(raw, card)
    return data.match(raw, card.labels, label_map=settings.label_map or None, in_order=card.prompt is not None)


def window_protocol(settings: Settings, card: ModelCard, texts: Texts) -> WindowProtocol | None:
    """Return how windows were cut (None: these are no windows)."""
    if texts.task.items_are_texts:
        return None
    windows = texts.take(texts.text_rows).windows
    documents = len(np.unique(np.concatenate([window.units for window in windows])))
    tokens = sum(window.scored for window in windows)
    stride = settings.stride or settings.window
    # Imported here because it imports torch.
    from cahp.models.windows import find_beginning, start_token

    begins = find_beginning(card, settings.bos)
    _, start = start_token(card)
    return WindowProtocol(settings.window, stride, start, tokens, documents, begins)


def _cut_windows(raw: data.Dataset, settings: Settings, card: ModelCard) -> data.Dataset:
    """Cut a sample of the texts of every split into windows; see ``cahp.models.windows.cut_windows``."""
    if settings.label_map:
        raise OptionError("--label-map maps labels, which a language model without --answers does not read")
    if settings.max_length is not None:
        raise OptionError(f"--max-length cuts texts, and {card.id} reads windows of them; use --window")
    longest = card.longest_context
    if longest is not None and settings.window > longest:
        raise OptionError(
            f"--window {settings.window:,} is more than the {longest:,} tokens that {card.id} reads; lower it"
        )
    if settings.stride is not None and settings.stride > settings.window:
        raise OptionError(f"--stride {settings.stride} would skip tokens; use at most --window {settings.window}")
    splits = {name: cut_split(raw, name, settings, card) for name in raw.splits}
    notices = raw.notices
    if settings.select_split in splits:
        notices += mix_notices(settings, raw, splits[settings.select_split])
    return replace(raw, splits=splits, classes=ALL, notices=notices, whole_test=raw.test_sha256)


def cut_split(raw: data.Dataset, split: str, settings: Settings, card: ModelCard) -> Texts:
    """Cut the texts of a split into windows: those of calibration with the mix, others with repeated tokens."""
    selects = split == settings.select_split
    limit = settings.eval_limit
    if selects:
        limit = settings.limit
    drawn, _ = data.sample(raw.splits[split], limit, how=settings.sample, seed=settings.seed, by_label=False)
    if selects:
        return _cut_calibration(drawn, settings, card, raw)
    return replace(_cut(drawn, settings.eval_tokens, settings, card, copies=True), classes=ALL)


def _cut(texts: Texts, tokens: int, settings: Settings, card: ModelCard, *, copies: bool = False) -> Texts:
    from cahp.models.windows import cut_windows

    seed: int | None = settings.seed
    if settings.sample == "head":
        # The first documents of a file are its beginning; others are drawn.
        seed = None
    return cut_windows(
        card,
        texts,
        window=settings.window,
        stride=settings.stride,
        tokens=tokens,
        seed=seed,
        copies=copies,
        bos=settings.bos,
    )


def _cut_calibration(texts: Texts, settings: Settings, card: ModelCard, raw: data.Dataset) -> Texts:
    """Cut texts into windows for calibration, with the parts of the mix evenly spread among them.

    The shares are those of the tokens that there are: texts may have fewer than ``--tokens``.
    """
    mix = choose_mix(settings)
    tokens = settings.tokens
    if mix.shares:
        # Windows are whole.
        tokens = round(tokens * mix.text_share / settings.window) * settings.window or round(tokens * mix.text_share)
    windows = _cut(texts, tokens, settings, card)
    total = min(settings.tokens, len(windows.stream) / mix.text_share)
    others: list[Window] = []
    for name, share in mix.sources.items():
        mixed, _ = _read_mixed(name, settings, raw)
        others += _cut(mixed, round(total * share), settings, card).windows
    if REPEATS in mix.shares:
        from cahp.models.windows import draw_repeats

        others += draw_repeats(card, windows, tokens=round(total * mix.shares[REPEATS]), seed=settings.seed)
    every = [*windows.windows, *others]
    places = [(np.arange(len(part)) + 0.5) / len(part) for part in (windows.windows, others)]
    spread = tuple(every[row] for row in np.argsort(np.concatenate(places), kind="stable"))
    return Texts(spread, None, np.full(len(every), NO_LABEL, dtype=np.int64), ALL, card.task)


def _read_mixed(name: str, settings: Settings, raw: data.Dataset) -> tuple[Texts, int]:
    """Read the texts of another data set for the mix, and count those that are left out because they evaluate."""
    texts = data.load_calibration(name, documents=settings.documents)
    closed = _list_closed(settings, raw)
    usable = [row for row, item in enumerate(texts.inputs) if item not in closed]
    if not usable:
        raise DataError(f"--mix: all texts of {name} are evaluation texts of {raw.id}; name other texts")
    return texts.take(usable), len(texts) - len(usable)


def _list_closed(settings: Settings, raw: data.Dataset) -> set[Item]:
    """The texts of all splits but that of calibration: nothing that chooses or recovers heads may read them."""
    return {item for split, texts in raw.splits.items() if split != settings.select_split for item in texts.inputs}


def _name_left_out(count: int, name: str, raw: data.Dataset) -> str:
    return f"{count:,} texts of {name} were left out, because they are evaluation texts of {raw.id}"


def choose_mix(settings: Settings) -> Mix:
    """Return the calibration mix of a language model, without sequences that are read twice where there is no room."""
    mix = Mix.parse(settings.mix)
    if settings.tokens * mix.shares.get(REPEATS, 0) < REPEATS_TOKENS:
        return Mix(mix.sources)
    return mix


def mix_notices(settings: Settings, raw: data.Dataset, calibration: Texts) -> Notices:
    """Return notices about the parts of the calibration tokens that are no text of the data."""
    mix = Mix.parse(settings.mix)
    notices: list[str] = []
    if REPEATS in mix.shares and not any(window.copying for window in calibration.windows):
        mix = Mix(mix.sources)
        notices.append(
            "calibration: heads are chosen without passages that are read twice, because the tokens are too few, or "
            f"the model reads too few at once ({REPEATS_TOKENS} tokens of them are needed); raise --tokens, or give "
            "--mix 0"
        )
    if mix.shares:
        notices.append(f"calibration mix: {mix} (--mix)")
    for name in mix.sources:
        _, lost = _read_mixed(name, settings, raw)
        if lost:
            notices.append(_name_left_out(lost, name, raw))
    return tuple(notices)


def check_texts(raw: data.Dataset, card: ModelCard) -> None:
    """Check that the model's prompt, if any, fits the texts.

    Raises:
        OptionError: If it is for pairs and these are single texts, or the other way round.
    """
    if card.prompt is not None and card.prompt.pairs != raw.pairs:
        places = "{text}"
        if raw.pairs:
            places = "{premise} and {hypothesis}"
        raise OptionError(
            f"{raw.id} holds {_name_inputs(pairs=raw.pairs)}, but the prompt has no placeholder for them; write "
            f"{places} into the prompt"
        )


def _name_inputs(*, pairs: bool) -> str:
    if pairs:
        return "pairs"
    return "single texts"


def label_reading(raw: data.Dataset, matched: data.Dataset) -> dict[str, str]:
    """Return the model's class for each label as the data names it; empty without labels."""
    reading: dict[str, str] = {}
    if not matched.labelled:
        return reading
    for split, texts in raw.splits.items():
        labels, first = np.unique(texts.labels, return_index=True)
        targets = matched.splits[split].labels[first]
        reading |= {raw.classes[ours]: matched.classes[theirs] for ours, theirs in zip(labels, targets, strict=True)}
    return reading


def draw_sample(
    dataset: data.Dataset, option: Literal["select-split", "eval-split"], settings: Settings
) -> tuple[Texts, Notices]:
    """Draw the calibration or the evaluation texts; also return notices about them.

    Raises:
        DataError: If there is no such split.
    """
    split = settings.eval_split
    limit = settings.eval_limit
    by_label = True
    if option == "select-split":
        split = settings.select_split
        limit = settings.limit
        # Labels that nothing reads must have no effect, not even on the sample.
        known = settings.method in methods.names()
        ignored = known and methods.facts(settings.method).labels == "none"
        by_label = not ignored or settings.labels or RECOVERIES[settings.recover].needs_labels
    if split not in dataset.splits:
        sizes = ", ".join(f"{name} ({len(texts):,} texts)" for name, texts in dataset.splits.items())
        raise DataError(
            f"{dataset.id} has no split {split!r}, only {sizes}; name another with --{option}, its file with --splits, "
            "or add texts"
        )
    if not dataset.split(split).task.items_are_texts:
        # They were drawn when they were cut.
        return dataset.split(split), ()
    texts, notices = data.sample(
        dataset.split(split), limit, how=settings.sample, seed=settings.seed, by_label=by_label
    )
    return texts, tuple(f"{split}: {notice}" for notice in notices)


def read_unlabelled(
    settings: Settings, raw: data.Dataset, dataset: data.Dataset, card: ModelCard
) -> tuple[list[Item] | None, Notices]:
    """Return the inputs of recoveries without labels (None: windows of the data), and notices about them.

    They are at most ``--limit`` texts of the calibration split, or of ``--recover-data`` without evaluation texts. A
    language model reads windows of them; the ``raw`` data have the texts. Calibration texts are drawn by label, and
    here labels must not be read.

    Raises:
        DataError: If the data are pairs and these are single texts, or the other way round.
    """
    name = settings.recover_data
    if name is None:
        texts = dataset.split(settings.select_split)
        if not texts.task.items_are_texts:
            return None, ()
        return _draw_inputs(texts.inputs, settings), ()
    inputs = data.load_calibration(
        name, text_column=settings.text_column, pair_column=settings.pair_column, documents=settings.documents
    ).plain_inputs
    if inputs and isinstance(inputs[0], str) is dataset.pairs:
        wanted = _name_inputs(pairs=dataset.pairs)
        given = _name_inputs(pairs=not dataset.pairs)
        raise DataError(f"{name} holds {given} and {dataset.id} {wanted}; name a file of {wanted}")
    closed = _list_closed(settings, raw)
    usable = [item for item in inputs if item not in closed]
    lost = len(inputs) - len(usable)
    if card.task.items_are_texts:
        taken = _draw_inputs(usable, settings)
    else:
        texts = Texts(tuple(map(str, usable)), None, np.full(len(usable), NO_LABEL, dtype=np.int64), ALL)
        taken = _cut_calibration(texts, settings, card, raw).inputs
    count = f"{len(taken):,}"
    limit = ""
    if RECOVERIES[settings.recover].timed:
        count = "as many"
        limit = " as the time allows"
    if card.task.items_are_texts:
        count += f" of {len(inputs):,}"
    notices = [f"recovered on {count} {card.words.items} of {name}{limit}"]
    if lost:
        notices.append(_name_left_out(lost, name, raw))
    return taken, tuple(notices)


def read_all_unlabelled(settings: Settings, raw: data.Dataset, dataset: data.Dataset, card: ModelCard) -> list[Item]:
    """Return all inputs that a recovery without labels may learn from, as far as its time allows.

    They are the whole calibration split, or all of ``--recover-data``. Of windows there are as many as fit in memory.
    """
    whole = replace(settings, limit=None, tokens=max(settings.tokens, _STATES_BYTES // (4 * card.hidden)))
    if settings.recover_data is None and not card.task.items_are_texts:
        return cut_split(raw, settings.select_split, whole, card).inputs
    inputs, _ = read_unlabelled(whole, raw, dataset, card)
    assert inputs is not None
    return inputs


def digest_all_unlabelled(settings: Settings, raw: data.Dataset) -> str:
    """Digest all texts that ``read_all_unlabelled`` reads, and those that it leaves out, before windows are cut."""
    names = [*Mix.parse(settings.mix).sources, settings.recover_data or ""]
    files = [expanded(Path(name)) for name in names]
    sizes = f"{settings.tokens} {settings.limit} {settings.mix}"
    return digest(raw.sha256, sizes, *(file_digest(file) for file in files if file.is_file()))


def _draw_inputs(inputs: Sequence[Item], settings: Settings) -> list[Item]:
    if settings.limit is None or settings.limit >= len(inputs):
        return list(inputs)
    if settings.sample == "head":
        return list(inputs[: settings.limit])
    rows = np.random.default_rng(settings.seed).permutation(len(inputs))[: settings.limit]
    return [inputs[row] for row in np.sort(rows)]


def check_classes(split: Texts, sample: Texts, settings: Settings) -> Notices:
    """Return notices about classes with too few texts; none without labels.

    Raises:
        DataError: If there is only one class.
    """
    if not split.labelled:
        return ()
    counts = sample.class_counts
    if np.count_nonzero(counts) < 2:
        name = sample.classes[int(counts.argmax())]
        if np.count_nonzero(split.class_counts) < 2:
            raise DataError(f"every text of {settings.select_split} is {name!r}; add texts of another class")
        way = "raise --limit"
        if settings.sample == "head":
            way += " or use --sample stratified"
        raise DataError(f"all {len(sample)} texts of the sample are {name!r}; {way}")
    single = [name for name, count in zip(sample.classes, counts, strict=True) if count == 1]
    if not single:
        return ()
    return (
        f"{settings.select_split}: there is only one text of {', '.join(map(repr, single))}, too few for the variance "
        "within that class; raise --limit or add texts.",
    )
