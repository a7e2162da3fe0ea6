"""The Hugging Face hub: list a repository, ask for consent, download its files, upload a folder, explain failures.

``consent_from`` names who decides on large downloads and on uploads, and ``progress_to`` who sees their progress.
Without them both are refused and nothing is drawn. Only this module and the ``datasets`` library contact the hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import huggingface_hub as client  # loads its parts when they are first used

from cahp.values import CahpError, Progress, setting, silent
from cahp.words import first_line, size_of

STAGE = "download"
UPLOAD = "upload"
#: Downloads of at most this many bytes need no consent.
FREE = 1_000_000_000
_TIMEOUT_S = 10.0
_SET_TOKEN = "set HF_TOKEN to one from https://huggingface.co/settings/tokens, or run `hf auth login`"  # noqa: S105

Kind = Literal["model", "dataset"]
#: The part of the address of a repository that its kind adds.
_FOLDERS = {"model": "", "dataset": "datasets/"}
#: Called with a question; returns whether the answer is yes.
Ask = Callable[[str], bool]

_ask: ContextVar[Ask | None] = ContextVar("ask", default=None)
_report: ContextVar[Progress] = ContextVar("report", default=silent)


def consent_from(ask: Ask) -> AbstractContextManager[object]:
    """Let ``ask`` decide on downloads larger than ``FREE``, and on uploads, inside the block."""
    return setting(_ask, ask)


def progress_to(progress: Progress) -> AbstractContextManager[object]:
    """Report downloads inside the block to ``progress``, in bytes, and the conversion of models."""
    return setting(_report, progress)


def report(stage: str, done: int, total: int) -> None:
    """Report ``done`` of ``total`` units of ``stage`` to the callback of the enclosing ``progress_to``, if any."""
    _report.get()(stage, done, total)


def require_consent(name: str, size: int, *, error: type[CahpError]) -> None:
    """Ask whether ``size`` bytes of ``name`` may be downloaded, if they are more than ``FREE``.

    Raises:
        CahpError: If the answer is no, or if no function to ask is set. Its type is ``error``.
    """
    if size <= FREE:
        return
    ask = _ask.get()
    if ask is None or not ask(f"{name} takes {size_of(size)} to download. Download it?"):
        raise error(
            f"the download of {name} takes {size_of(size)}, and more than {size_of(FREE)} needs your consent: add "
            "--yes, or agree in the explorer's dialog"
        )


@dataclass(frozen=True)
class Repository:
    """A repository at one commit: ``sizes`` maps the path of each file to its bytes.

    ``revision`` is the branch, tag or commit that was asked for.
    """

    kind: Kind
    id: str
    revision: str
    commit: str
    sizes: Mapping[str, int]

    @classmethod
    def open(cls, kind: Kind, name: str) -> Repository:
        """List the files of ``org/name[@revision]``.

        Raises:
            Exception: Any error of the client; ``translate_failures`` turns it into a sentence.
        """
        repository, revision = split_name(name)
        info: Any = client.HfApi().repo_info(
            repository, repo_type=kind, revision=revision, files_metadata=True, timeout=_TIMEOUT_S
        )
        sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
        return cls(kind, repository, revision or "main", str(info.sha), sizes)

    def missing_bytes(self, files: Sequence[str]) -> int:
        """Count the bytes of ``files`` that are still to be downloaded."""
        return sum(self.sizes[file] for file in files if not cached_file(self.kind, self.id, file, self.commit))

    def fetch(self, files: Sequence[str], *, progress: Progress | None = None) -> Path:
        """Download the ``files`` that are missing, in this order, and return their folder."""
        bar = _counting_bar(self.missing_bytes(files), progress or _report.get())
        download = partial(client.hf_hub_download, self.id, repo_type=self.kind, tqdm_class=bar)
        places = [download(file, revision=self.commit) for file in files]
        if self.revision != self.commit:
            # By the name of the revision: the client then notes its commit, for when the hub cannot be reached.
            download(files[0], revision=self.revision)
        return Path(places[0]).parent

    def check_readable(self) -> None:
        """Ask the hub for one file, since a gated repository is listed even without permission to read it."""
        for file in sorted(self.sizes)[:1]:
            client.get_hf_file_metadata(client.hf_hub_url(self.id, file, repo_type=self.kind, revision=self.commit))

    def shapes(self, file: str) -> dict[str, tuple[int, ...]]:
        """Read the shape of each tensor from the header of a safetensors file, without its weights."""
        api = client.HfApi()
        header = api.parse_safetensors_file_metadata(self.id, file, repo_type=self.kind, revision=self.commit)
        return {name: tuple(tensor.shape) for name, tensor in header.tensors.items()}


def split_name(name: str) -> tuple[str, str | None]:
    """Split ``org/name[@revision]`` into the id and the revision, None without one."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def cached_file(kind: Kind, repository: str, file: str, revision: str | None) -> Path | None:
    """Return the path of a downloaded file, as it was when the revision was last downloaded; the hub is not asked."""
    place = client.try_to_load_from_cache(repository, file, repo_type=kind, revision=revision)
    if isinstance(place, str):
        return Path(place)
    return None


def _counting_bar(total: int, report: Progress) -> Any:
    """Make a class of progress bars for the client that draws nothing and reports the bytes it has written."""
    from huggingface_hub.utils.tqdm import tqdm

    done = 0

    class ByteBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            nonlocal done
            done += int(n or 0)
            report(STAGE, min(done, total), total)

        def update_transfer(self, *_: Any, **__: Any) -> None:
            """Ignore what came over the network: it is counted once it is written."""

        set_transfer_postfix_str = update_transfer

    return ByteBar


# Uploads -----------------------------------------------------------------------------------------------------------

#: What the hub puts into a new repository.
_EMPTY = {".gitattributes"}


@dataclass(frozen=True)
class NewRepository:
    """The new repository ``name`` (``org/name``) for a folder: private, or ``public``.

    The token is the one of the hub's client, and is never shown.
    """

    name: str
    public: bool = False

    def check(self) -> None:
        """Check before long work that the upload is agreed to, a token is there, and no repository has the name.

        Raises:
            CahpError: If not.
        """
        with translate_failures("model", self.name, error=CahpError):
            if self.name.count("/") != 1:
                raise CahpError(f"{self.name!r} is no name of a repository; write org/name")
            who = "private"
            if self.public:
                who = "public: everybody can read it"
            ask = _ask.get()
            if ask is None or not ask(f"The model will be uploaded to {self.name} on the hub ({who}). Upload it?"):
                raise CahpError(f"the upload to {self.name} needs your consent: add --yes, or leave out --push")
            if client.get_token() is None:
                raise CahpError(f"the upload to {self.name} needs a token that may write; {_SET_TOKEN}")
            self._check_free()

    def send(self, folder: Path, names: Sequence[str]) -> str:
        """Make the repository, upload the files and folders ``names`` of ``folder``, and return its address.

        Raises:
            CahpError: If that fails; the folder stays as it is.
        """
        from huggingface_hub import constants

        report(UPLOAD, 0, 1)
        with translate_failures("model", self.name, error=CahpError):
            self._check_free()
            api = client.HfApi()
            # An interrupted upload leaves an empty repository.
            api.create_repo(self.name, private=not self.public, exist_ok=True)
            api.upload_folder(
                repo_id=self.name,
                folder_path=folder,
                # Anything else in the folder is not ours.
                allow_patterns=[pattern for name in names for pattern in (name, f"{name}/*")],
                ignore_patterns=["*__pycache__/*"],
                commit_message="Upload a pruned model",
            )
        report(UPLOAD, 1, 1)
        return f"{constants.ENDPOINT}/{self.name}"

    def _check_free(self) -> None:
        """Check that there is no repository of this name, or an empty one that as many can read."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info: Any = client.HfApi().repo_info(self.name, timeout=_TIMEOUT_S)
        except RepositoryNotFoundError:
            return
        files = {file.rfilename for file in info.siblings or []} - _EMPTY
        if files:
            raise CahpError(f"{self.name} exists on the hub and holds {min(files)}; choose another name with --push")
        if info.private == self.public:
            raise CahpError(f"{self.name} exists on the hub, with another visibility; choose another name with --push")


# Failures ----------------------------------------------------------------------------------------------------------


@contextmanager
def translate_failures(kind: Kind, name: str, *, error: type[CahpError]) -> Iterator[None]:
    """Raise an ``error`` with a helpful sentence where the hub's client fails, and keep the client quiet."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    verbosity = logging.get_verbosity()
    drawn = not are_progress_bars_disabled()
    logging.set_verbosity(40)  # errors alone
    disable_progress_bars()
    try:
        yield
    except CahpError:
        raise
    except Exception as failure:  # network, hub and disk have no common error
        message = _explain(kind, name, failure)
        if message is None:
            raise
        raise error(message) from None
    finally:
        logging.set_verbosity(verbosity)
        if drawn:
            enable_progress_bars()


def is_unreachable(failure: BaseException) -> bool:
    """Tell whether an error of the client means that the hub was not reached at all."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    for cause in _causes(failure):
        if isinstance(cause, (OfflineModeIsEnabled, LocalEntryNotFoundError, ConnectionError, TimeoutError)):
            return True
        # The client has changed its HTTP library before, and may again.
        if type(cause).__module__.partition(".")[0] in ("httpx", "httpx2", "requests") and _status(cause) is None:
            return True
    return False


def _explain(kind: Kind, name: str, failure: BaseException) -> str | None:
    """Say what went wrong at the hub and what to do about it; None if the failure is of another kind."""
    from huggingface_hub import constants, errors

    repository, revision = split_name(name)
    page = f"{constants.ENDPOINT}/{_FOLDERS[kind]}{repository}"
    causes = _causes(failure)
    # In this order: a gated repository is also one that was not found.
    sentences: dict[type[BaseException], str] = {
        errors.HFValidationError: f"{repository!r} is no name of a repository; write org/name or org/name@revision",
        errors.GatedRepoError: f"{repository} is gated; accept its terms at {page} and {_SET_TOKEN}",
        errors.DisabledRepoError: f"{repository} is disabled on the hub; choose another one",
        errors.RevisionNotFoundError: f"{repository} has no revision {revision!r}; see {page}/tree/main",
        errors.RepositoryNotFoundError: f"the hub has no {kind} {repository}, or it is private; check the name or, for "
        f"a private repository, {_SET_TOKEN}",
        errors.SafetensorsParsingError: f"{repository} has a file that is not a whole safetensors file; choose another",
    }
    for kind_of_error, sentence in sentences.items():
        if any(isinstance(cause, kind_of_error) for cause in causes):
            return sentence
    if is_unreachable(failure):
        advice = "check the connection"
        if client.is_offline_mode():
            advice = "unset HF_HUB_OFFLINE"
        return f"the hub cannot be reached for {name}; {advice}, or use a folder on this machine"
    status = next((code for cause in causes if (code := _status(cause)) is not None), None)
    if status in (401, 403):
        return f"your token may not read or write {repository}; renew or allow it: {_SET_TOKEN}"
    if status is not None:
        return f"the hub answered with error {status} for {repository}; try again later"
    if isinstance(failure, (OSError, ValueError)) or type(failure).__module__.startswith("huggingface_hub"):
        problem = first_line(failure)
        token = client.get_token()
        if token:
            # The client may quote it.
            problem = problem.replace(token, "...")
        return f"the hub's client failed for {name} ({problem}); check the name, your access and the disk"
    return None


def _causes(failure: BaseException | None) -> list[BaseException]:
    """List an error and its causes, the nearest first; the datasets library hides the client's errors."""
    causes = []
    while failure is not None and failure not in causes:
        causes.append(failure)
        failure = failure.__cause__ or failure.__context__
    return causes


def _status(failure: BaseException) -> int | None:
    status = getattr(getattr(failure, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
