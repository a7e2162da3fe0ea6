"""The hub: what lies in a repository and how large it is, before any of it is fetched; nothing without being asked.

``asking`` says who is asked before much is fetched, and ``reporting`` who sees how far it is; without them whatever is
large is refused and nothing is drawn. Only this module and the ``datasets`` library speak with the hub.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cahp.values import CahpError, Progress, silent
from cahp.words import size_of

STAGE = "download"
#: Bytes that are fetched without asking.
FREE = 1_000_000_000
_TIMEOUT_S = 10.0
#: Repositories hold some dozens of files beside one another.
_MOST_FILES = 10_000

Kind = Literal["model", "dataset"]
#: Asked with what would be fetched and its bytes.
Ask = Callable[[str, int], bool]

_ask: ContextVar[Ask | None] = ContextVar("ask", default=None)
_report: ContextVar[Progress] = ContextVar("report", default=silent)


@contextmanager
def asking(ask: Ask) -> Iterator[None]:
    """``ask`` decides on what is larger than ``FREE`` while the block lasts."""
    token = _ask.set(ask)
    try:
        yield
    finally:
        _ask.reset(token)


@contextmanager
def reporting(progress: Progress) -> Iterator[None]:
    """``progress`` sees what is fetched while the block lasts, in bytes."""
    token = _report.set(progress)
    try:
        yield
    finally:
        _report.reset(token)


def agree(name: str, size: int, *, error: type[CahpError]) -> None:
    """Ask whether ``size`` bytes of ``name`` may be fetched, if that is much.

    Raises:
        CahpError: If they may not, or nobody can be asked; it is an ``error``.
    """
    if size <= FREE:
        return
    ask = _ask.get()
    what = f"{name} takes {size_of(size)} to fetch from the hub"
    if ask is None or not ask(name, size):
        raise error(
            f"{what}, and more than {size_of(FREE)} is fetched only with consent: give --yes, or open it in the "
            "explorer's dialog"
        )


@dataclass(frozen=True)
class Repository:
    """A repository at one commit, that of ``revision`` now: ``sizes`` of its files, in bytes, by path."""

    kind: Kind
    id: str
    revision: str
    commit: str
    sizes: Mapping[str, int]

    @classmethod
    def open(cls, kind: Kind, name: str, *, whole: bool = False) -> Repository:
        """What ``name`` (``org/name[@revision]``) holds now: beside its configuration, or the ``whole`` of it.

        Raises:
            Whatever the client raises; ``failures`` makes a sentence of it.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        repository, revision = parts(name)
        api = HfApi()
        info = api.repo_info(repository, repo_type=kind, revision=revision, timeout=_TIMEOUT_S)
        commit, sizes = str(info.sha), {}
        for entry in api.list_repo_tree(repository, repo_type=kind, revision=commit, recursive=whole):
            if isinstance(entry, RepoFile) and (whole or "/" not in entry.path):
                sizes[entry.path] = int(entry.size)
            if len(sizes) > _MOST_FILES:
                raise ValueError(f"more than {_MOST_FILES:,} files")
        return cls(kind, repository, revision or "main", commit, sizes)

    def fetched(self, file: str) -> Path | None:
        """Where a file of this commit lies here, if it was fetched before."""
        return cached(self.kind, self.id, file, self.commit)

    def missing(self, files: Sequence[str]) -> int:
        """The bytes of ``files`` that are not here."""
        return sum(self.sizes[file] for file in files if self.fetched(file) is None)

    def fetch(self, files: Sequence[str], *, progress: Progress | None = None) -> Path:
        """The folder with ``files``, those fetched that are not here; in their order."""
        from huggingface_hub import hf_hub_download

        counter = _Counter(self.missing(files), _report.get() if progress is None else progress)
        places = [
            hf_hub_download(self.id, file, repo_type=self.kind, revision=self.commit, tqdm_class=counter.bar)
            for file in files
        ]
        self._remember()
        return Path(places[0]).parent

    def _remember(self) -> None:
        """Note where the client's cache does which commit the revision is, for when the hub cannot be asked."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=self.id, repo_type=self.kind), "refs")
        note = folder / self.revision
        if self.revision != self.commit and not (note.is_file() and note.read_text() == self.commit):
            note.parent.mkdir(parents=True, exist_ok=True)
            part = note.with_name(f".{note.name}.{os.getpid()}")
            part.write_text(self.commit)
            part.replace(note)

    def check(self) -> None:
        """Ask whether files may be read: a gated repository can be listed without that."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        for file in sorted(self.sizes)[:1]:
            get_hf_file_metadata(hf_hub_url(self.id, file, repo_type=self.kind, revision=self.commit))

    def beginning(self, file: str, first: int, last: int) -> bytes:
        """The bytes ``first`` to ``last`` of a file, which is not fetched for it."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils._headers import build_hf_headers
        from huggingface_hub.utils._http import hf_raise_for_status

        address = hf_hub_url(self.id, file, repo_type=self.kind, revision=self.commit)
        headers = {**build_hf_headers(), "Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        found = bytearray()
        request = get_session().stream("GET", address, headers=headers, follow_redirects=True, timeout=_TIMEOUT_S)
        with request as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            # A server that knows no ranges sends the file from its first byte: what is not needed is not waited for.
            skip = first if response.status_code == 200 else 0
            for chunk in response.iter_bytes():
                found += chunk
                if len(found) > last - first + skip:
                    break
        return bytes(found[skip : skip + last - first + 1])


def parts(name: str) -> tuple[str, str | None]:
    """The id and the revision, if there is one, of ``org/name[@revision]``."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def cached(kind: Kind, repository: str, file: str, revision: str | None) -> Path | None:
    """Where a file lies here as it was when it was last fetched, without asking the hub."""
    from huggingface_hub import try_to_load_from_cache

    place = try_to_load_from_cache(repository, file, repo_type=kind, revision=revision)
    return Path(place) if isinstance(place, str) else None


class _Counter:
    """Counts the bytes that the client writes; ``bar`` stands where it would draw bars of its own."""

    def __init__(self, total: int, report: Progress) -> None:
        done = 0

        class Counted:
            n = total = 0

            def __init__(self, *_: Any, **__: Any) -> None:
                """Of what, does not matter."""

            def __enter__(self) -> Counted:
                return self

            def update(self, count: float | None = 1) -> None:
                nonlocal done
                done += int(count or 0)
                report(STAGE, min(done, total), total)

            def nothing(self, *_: Any, **__: Any) -> None:
                """Nothing is drawn, and what comes over the network is counted once it is written."""

            __exit__ = close = refresh = update_transfer = nothing
            set_description = set_postfix_str = set_transfer_postfix_str = nothing

        self.bar: Any = Counted


@contextmanager
def failures(kind: Kind, name: str, *, error: type[CahpError]) -> Iterator[None]:
    """What the hub does not give is an ``error``, in a sentence that helps; its client says nothing of its own."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(40)  # errors alone
    try:
        yield
    except CahpError:
        raise
    except Exception as failure:  # network, hub and disk have no common error
        said = sentence(kind, name, failure)
        if said is None:
            raise
        raise error(said) from None
    finally:
        logging.set_verbosity(before)


@contextmanager
def not_asked() -> Iterator[None]:
    """The client asks the hub nothing while the block lasts: it would try for half a minute what did not work."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_unreachable(failure: BaseException) -> bool:
    """Whether the hub was not reached at all, as far as an error of its client tells."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    for one in _chain(failure):
        if isinstance(one, (OfflineModeIsEnabled, LocalEntryNotFoundError, ConnectionError, TimeoutError)):
            return True
        # The client has changed the library that it speaks HTTP with, and may again.
        if type(one).__module__.partition(".")[0] in ("httpx", "httpx2", "requests") and _status(one) is None:
            return True
    return False


def sentence(kind: Kind, name: str, failure: BaseException) -> str | None:
    """What went wrong at the hub and what to do about it; None if it was something else."""
    from huggingface_hub import constants, errors

    repository, revision = parts(name)
    what = {"model": "model", "dataset": "data set"}[kind]
    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repository}"
    chain = list(_chain(failure))
    status = next((_status(one) for one in chain if _status(one) is not None), None)

    def any_of(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if any_of(errors.HFValidationError):
        return f"{repository!r} is neither a folder nor a valid hub id; write it as org/name or org/name@revision"
    if any_of(errors.GatedRepoError):
        token = f" and make the token known: {_TOKEN}" if not _has_token() else " with the account that the token is of"
        return f"{repository} is gated: accept its terms at {page}{token}"
    if any_of(errors.DisabledRepoError):
        return f"the hub has disabled {repository}; name another {what}"
    if any_of(errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r} on the hub; {page}/tree/main lists its branches and tags"
    if any_of(errors.RepositoryNotFoundError):
        return (
            f"the hub has no {what} {repository}, or it is private: check its name or, if it is private, make known a "
            f"token that may read it: {_TOKEN}"
        )
    if any_of(errors.EntryNotFoundError) and not any_of(errors.LocalEntryNotFoundError):
        return f"a file of {repository} is not on the hub any more; try again, or name a revision"
    if status == 401:
        return f"the hub does not accept the token that it was sent for {repository}; renew it: {_TOKEN}"
    if status == 403:
        return f"the token has no permission to read {repository}; give it that at {constants.ENDPOINT}/settings/tokens"
    if status is not None:
        return f"the hub answers for {repository} with error {status}; try again in a while"
    if is_unreachable(failure):
        if constants.is_offline_mode():
            why = "HF_HUB_OFFLINE keeps the hub from being asked; unset it, or name a local folder"
        else:
            why = "the hub cannot be reached to look for it; check the connection, or name a local folder"
        return f"{what} {name} is not here as a whole, and {why}"
    for one in chain:
        if isinstance(one, OSError) and one.strerror:
            where = constants.HF_HUB_CACHE
            return f"{repository} cannot be kept in {where} ({one.strerror}); make room there, or set HF_HOME"
    if isinstance(failure, (OSError, ValueError)) or type(failure).__module__.startswith("huggingface_hub"):
        return f"the hub does not give {name} ({_first_line(failure)}); check its name, revision and your access"
    return None


_TOKEN = "set HF_TOKEN to one from https://huggingface.co/settings/tokens, or run `hf auth login`"  # noqa: S105 - a sentence


def _has_token() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())


def _chain(failure: BaseException | None) -> Iterable[BaseException]:
    """An error and those it came of; the datasets library hides the client's."""
    seen: list[BaseException] = []
    while failure is not None and failure not in seen:
        seen.append(failure)
        failure = failure.__cause__ or failure.__context__
    return seen


def _status(failure: BaseException) -> int | None:
    status = getattr(getattr(failure, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _first_line(failure: BaseException) -> str:
    lines = str(failure).strip().splitlines()
    return lines[0][:200].rstrip(" .:") if lines else type(failure).__name__
