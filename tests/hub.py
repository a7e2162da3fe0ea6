"""A small server that speaks the hub's protocol, counts what is fetched from it, and takes what is uploaded."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

Files = Mapping[str, bytes]


def files_in(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@dataclass
class Repository:
    """A repository: files by commit, commits by the name of a branch or tag."""

    commits: dict[str, Files]
    names: dict[str, str]
    gated: bool = False
    #: Who may read it; everybody, if it is None.
    token: str | None = None
    private: bool = False


@dataclass(frozen=True)
class Request:
    """What was asked, and how many bytes of content were sent."""

    method: str
    path: str
    sent: int
    ranged: bool = False

    @property
    def file(self) -> str:
        """The file of a repository that was asked for, if it was one."""
        return self.path.partition("/resolve/")[2].partition("/")[2]


@dataclass
class Hub:
    """What the server holds, and what was asked of it.

    ``commits`` is what it answers when a commit arrives (0: it hangs up). ``writers`` are the tokens that may write.
    """

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    commits: int | None = None
    writers: set[str] = field(default_factory=set)
    gone: bool = False

    def add(self, name: str, content: Path | Files, *, tag: str | None = None, **more: Any) -> str:
        """Put a commit into a repository (``datasets/org/name`` for data); gives the commit."""
        files = files_in(content) if isinstance(content, Path) else dict(content)
        parts = [one for path in sorted(files) for one in (path.encode(), files[path])]
        commit = hashlib.sha1(b"\0".join(parts)).hexdigest()
        repository = self.repositories.setdefault(name, Repository({}, {}, **more))
        repository.commits[commit] = files
        repository.names[tag or "main"] = commit
        return commit

    def fetched(self) -> dict[str, int]:
        """Bytes of content sent, by file."""
        found: dict[str, int] = {}
        for one in self._resolved():
            found[one.file] = found.get(one.file, 0) + one.sent
        return found

    def fetched_whole(self) -> set[str]:
        """The files that were sent as a whole, not a part of each."""
        return {one.file for one in self._resolved() if not one.ranged}

    def _resolved(self) -> list[Request]:
        return [one for one in self.requests if one.method == "GET" and one.file]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.body = self.rfile.read(length)
            address = urlsplit(self.path)
            words = [unquote(word) for word in address.path.strip("/").split("/")]
            query = parse_qs(address.query)
            if hub.gone:
                # Connections that a client keeps open outlive the server.
                self.close_connection = True
                return
            if words[:2] == ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            elif self.command == "POST" and words[:2] == ["api", "repos"]:
                self._create(json.loads(self.body))
            elif self.command == "POST" and "preupload" in words:
                files = [{**file, "uploadMode": "regular"} for file in json.loads(self.body)["files"]]
                self._json({"files": [{**file, "shouldIgnore": False, "oid": None} for file in files]})
            elif self.command == "POST" and "commit" in words:
                self._commit("/".join(words[2:4]))
            elif words[0] == "api":
                self._api(words[1:], query)
            else:
                self._resolve(words)

        do_GET = do_HEAD = do_POST = _answer

        # Errors, as the hub words them in headers.

        def _refuse(self, status: int, code: str | None, message: str) -> None:
            headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
            self._send(status, json.dumps({"error": message}).encode(), headers)

        def _found(self, name: str, revision: str) -> tuple[str, Files] | None:
            repository = hub.repositories.get(name)
            asked = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if repository is None or (repository.token and not repository.gated and asked != repository.token):
                self._refuse(401, "RepoNotFound", "Repository not found")
                return None
            content = "/resolve/" in self.path
            if repository.gated and content and asked != repository.token:
                self._refuse(403 if asked else 401, "GatedRepo", f"Access to model {name} is restricted.")
                return None
            commit = repository.names.get(revision, revision)
            if commit not in repository.commits:
                self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
                return None
            return commit, repository.commits[commit]

        # What is uploaded.

        def _create(self, asked: dict[str, Any]) -> None:
            name = f"{asked['organization']}/{asked['name']}"
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if token not in hub.writers:
                self._refuse(403, None, f"You don't have the rights to create {name}")
            elif name in hub.repositories:
                said = {"error": "You already created this model repo", "url": f"{hub.address}/{name}"}
                self._send(409, json.dumps(said).encode(), {})
            else:
                commit = hashlib.sha1(name.encode()).hexdigest()
                private = asked.get("visibility") == "private"
                files = {".gitattributes": b""}
                reader = token if private else None
                hub.repositories[name] = Repository({commit: files}, {"main": commit}, token=reader, private=private)
                self._json({"url": f"{hub.address}/{name}"})

        def _commit(self, name: str) -> None:
            if hub.commits == 0:
                self.close_connection = True
            elif hub.commits is not None:
                self._refuse(hub.commits, None, "out of order")
            else:
                lines = [json.loads(line) for line in self.body.splitlines()]
                files = [line["value"] for line in lines if line["key"] == "file"]
                new = {file["path"]: base64.b64decode(file["content"]) for file in files}
                repository = hub.repositories[name]
                commit = hub.add(name, {**repository.commits[repository.names["main"]], **new})
                self._json({"commitUrl": f"{hub.address}/{name}/commit/{commit}", "commitOid": commit, "success": True})

        # What is in a repository.

        def _api(self, words: list[str], query: Mapping[str, list[str]]) -> None:
            kind, name, rest = words[0], "/".join(words[1:3]), words[3:]
            key = f"datasets/{name}" if kind == "datasets" else name
            what = rest[0] if rest else "revision"
            found = self._found(key, rest[1] if len(rest) > 1 else "main")
            if found is None:
                return
            commit, files = found
            if what == "revision":
                siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
                said = {"id": name, "sha": commit, "private": hub.repositories[key].private, "gated": False, "tags": []}
                self._json({**said, "_id": "1", "downloads": 0, "likes": 0, "siblings": siblings})
            elif what == "tree":
                below = "/".join(rest[2:])
                deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
                entries = _tree(files, below, deep=deep)
                if below and not entries:
                    self._refuse(404, "EntryNotFound", f"{below} does not exist")
                else:
                    self._json(entries)
            elif what == "paths-info":
                asked = parse_qs(self.body.decode()).get("paths", []) or json.loads(self.body or b"{}").get("paths", [])
                self._json([entry for entry in _tree(files, "", deep=True) if entry["path"] in asked])
            else:
                self._refuse(404, None, f"no {what} here")

        def _resolve(self, words: list[str]) -> None:
            place = words.index("resolve") if "resolve" in words else 0
            name, revision, file = "/".join(words[:place]), words[place + 1], "/".join(words[place + 2 :])
            found = self._found(name, revision)
            if found is None:
                return
            commit, files = found
            if file not in files:
                self._refuse(404, "EntryNotFound", f"{file} does not exist")
                return
            content = files[file]
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
            asked = self.headers.get("Range")
            if asked is None:
                self._send(200, content, {**headers, "Accept-Ranges": "bytes"})
                return
            first, _, last = asked.removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1 if last else None]
            span = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
            self._send(206, part, {**headers, "Content-Range": span}, ranged=True)

        def _json(self, said: object) -> None:
            self._send(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, content: bytes, headers: Mapping[str, str], *, ranged: bool = False) -> None:
            head = self.command == "HEAD"
            # Before the answer, or a test could count its requests without the last one.
            hub.requests.append(
                Request(self.command, urlsplit(self.path).path, 0 if head or status >= 400 else len(content), ranged)
            )
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if not head:
                self.wfile.write(content)

    return Handler


def _tree(files: Files, below: str, *, deep: bool) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    start = f"{below}/" if below else ""
    for path, content in files.items():
        if not path.startswith(start):
            continue
        folder, more, _ = path[len(start) :].partition("/")
        if more:
            oid = hashlib.sha1(folder.encode()).hexdigest()
            found[start + folder] = {"type": "directory", "oid": oid, "size": 0, "path": start + folder}
        if deep or not more:
            oid = hashlib.sha1(content).hexdigest()
            found[path] = {"type": "file", "oid": oid, "size": len(content), "path": path}
    return list(found.values())


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that have read enough hang up."""


@contextmanager
def serving() -> Iterator[Hub]:
    """A server on a free port of the loopback while the block lasts."""
    hub = Hub()
    server = _Server(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.gone = True
        server.shutdown()
        server.server_close()
        thread.join()


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    """What makes another process ask this hub, and keep what it fetches in ``folder``."""
    return {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(folder),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": "",
    }


@contextmanager
def asked_here(hub: Hub, folder: Path) -> Iterator[None]:
    """Make this process ask this hub while the block lasts; what it fetches is kept in ``folder``."""
    import datasets
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(hub, folder).items():
            patch.setenv(name, value)
        # Both libraries read the environment once, when they are imported.
        patch.setattr(constants, "ENDPOINT", hub.address)
        patch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
        patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(datasets.config, "HF_ENDPOINT", hub.address)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        patch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", folder / "datasets" / "downloads")
        yield
