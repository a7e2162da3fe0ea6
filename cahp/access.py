"""Who may come in to the explorer, and how far: hosts, the token, and what may be opened of this machine.

``cahp explore`` says it in the environment of the server that it starts, which reads it once. Nothing here knows the
server.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Event
from urllib.parse import urlencode

from cahp.values import CahpError

#: The parameter of an address that carries the token.
TOKEN = "token"  # noqa: S105 - its name
_PREFIX = "CAHP_EXPLORE_"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: A Host header: a name or an address (that of IPv6 in brackets), and perhaps a port.
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[\w.-]+))(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
#: An id on the hub, of data after "hub:", perhaps with a revision and a configuration.
_HUB = re.compile(r"(?:hub:)?\w[\w.-]*/\w[\w.-]*(?:@[^\s@:]+)?(?::[^\s@:]+)?", re.ASCII)


class AccessError(CahpError):
    """What was asked for is not open to whoever asked."""


@dataclass(frozen=True)
class Access:
    """Who may come in, and how far; as it stands, whoever can reach the loopback, and as far as this process can.

    ``hosts`` are the names and addresses under which the server is reached beside the loopback's; one that stands for
    every address of this machine (``0.0.0.0``, ``::``) admits any address, but no name. With ``public`` nothing of this
    machine and nothing from the hub can be opened, apart from what is built in. ``data_root`` is the one folder below
    which models and data can be opened, also in public.

    Raises:
        AccessError: If ``data_root`` is no folder.
    """

    hosts: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    public: bool = False
    data_root: Path | None = None

    def __post_init__(self) -> None:
        if self.data_root is not None:
            root = self.data_root.expanduser().resolve()
            if not root.is_dir():
                raise AccessError(f"{self.data_root} is not a folder; --data-root names the one that may be opened")
            object.__setattr__(self, "data_root", root)

    def environment(self) -> dict[str, str]:
        """The environment variables that say so to another process; those that say nothing are empty."""
        said = {
            "HOSTS": " ".join(self.hosts),
            "TOKEN": self.token,
            "PUBLIC": "1" if self.public else "",
            "DATA_ROOT": "" if self.data_root is None else str(self.data_root),
        }
        return {_PREFIX + name: value for name, value in said.items()}

    @classmethod
    def said_in(cls, environment: Mapping[str, str]) -> Access:
        """What ``environment`` wrote; an empty or missing variable says nothing."""
        hosts, token, public, root = (
            environment.get(_PREFIX + name, "") for name in ("HOSTS", "TOKEN", "PUBLIC", "DATA_ROOT")
        )
        return cls(tuple(hosts.split()), token, bool(public), Path(root) if root else None)

    # Who comes in ------------------------------------------------------------------------------------------------

    def answers(self, host: str) -> bool:
        """Whether a request with this Host header was meant for this server.

        A page elsewhere may give its own name the address of this machine after it was loaded ("DNS rebinding"); the
        browser then takes the explorer for a part of that page, but still sends that name.
        """
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        asked = _normal(match["six"] or match["name"])
        mine = {_normal(name) for name in (*_LOOPBACK, *self.hosts)}
        return asked in mine or (_is_address(asked) and any(is_every_address(name) for name in mine))

    def admits(self, token: str) -> bool:
        """Whether whoever shows ``token`` may come in; how long that takes does not tell how much of it was right."""
        return not self.token or secrets.compare_digest(token.encode(), self.token.encode())

    def address(self, host: str, port: int | None, path: str = "", *, scheme: str = "http", **query: str) -> str:
        """The address that opens the explorer, or a page of it, and carries the token, if there is one."""
        named = f"[{host}]" if ":" in host else host
        at = "" if port is None else f":{port}"
        said = {**({TOKEN: self.token} if self.token else {}), **query}
        return f"{scheme}://{named}{at}/{path}" + (f"?{urlencode(said)}" if said else "")

    # How far they come -------------------------------------------------------------------------------------------

    @property
    def opens_folders(self) -> bool:
        """Whether anything of this machine can be opened by its path."""
        return not self.public or self.data_root is not None

    @property
    def opens_hub(self) -> bool:
        """Whether any id on the hub can be opened."""
        return not self.public

    def source(self, name: str, *, known: Collection[str]) -> str:
        """The name of a model or data as it may be opened: as given, or the real path of what lies below ``data_root``.

        Names in ``known`` are open to everybody.

        Raises:
            AccessError: If it may not be opened; whether there is such a thing, the message does not tell.
        """
        if name in known or (not self.public and self.data_root is None):
            return name
        below = self._below_root(name)
        if below is not None:
            return str(below)
        if self.opens_hub and _is_on_hub(name):
            return name
        raise AccessError(self._refusal)

    @property
    def _refusal(self) -> str:
        root = "" if self.data_root is None else "what lies in the folder set aside for it, "
        hub = "the hub, " if self.opens_hub else ""
        return f"this explorer opens what is built in, {hub}{root}and files that you upload; choose one of those"

    def _below_root(self, name: str) -> Path | None:
        if self.data_root is None or not name.strip():
            return None
        try:
            path = (self.data_root / name).resolve(strict=True)
            inside = _stays(path, self.data_root)
        except (OSError, ValueError, RuntimeError):
            # There is no such thing, no path can have that name, or links go round in circles.
            return None
        return path if inside else None


#: Set where this process answers through the door that holds requests against ``current()`` (``cahp.ui.server``).
door = Event()


@cache
def current() -> Access:
    """What this process was told when it started."""
    return Access.said_in(os.environ)


def _normal(host: str) -> str:
    host = host.strip("[]").lower().removesuffix(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def is_every_address(host: str) -> bool:
    """Whether ``host``, to listen on, stands for every address of this machine."""
    return _is_address(host) and ipaddress.ip_address(_normal(host)).is_unspecified


def is_loopback(host: str) -> bool:
    """Whether only this machine itself reaches ``host``."""
    return _normal(host) == "localhost" or (_is_address(host) and ipaddress.ip_address(_normal(host)).is_loopback)


def reachable(host: str) -> str:
    """An address under which others reach this machine, if ``host`` stands for all it has."""
    if not is_every_address(host):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: this only asks which of its addresses the machine would use. The other one is nobody's.
            probe.connect(("203.0.113.77", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(_normal(host))
    except ValueError:
        return False
    return True


def _is_on_hub(name: str) -> bool:
    """Whether models and data are looked up under this name on the hub, and not in a folder."""
    if _HUB.fullmatch(name) is None:
        return False
    try:
        return not Path(name).exists()
    except OSError:
        return False


def _stays(path: Path, root: Path) -> bool:
    """Whether ``path``, which is resolved, and all links below it lead to what is below ``root``."""
    if not path.is_relative_to(root):
        return False
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            entry = Path(folder, name)
            if entry.is_symlink() and not entry.resolve(strict=True).is_relative_to(root):
                return False
    return True
