"""Access rules of the explorer: its hosts, its token, and which files and hub ids may be opened.

``cahp explore`` passes them to the server in an environment variable, which the server reads once.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Event
from urllib.parse import urlencode

import msgspec

from cahp.files import is_there
from cahp.values import CahpError

#: The query parameter with the token.
TOKEN = "token"  # noqa: S105 - its name
#: The environment variable with the rules, as JSON.
_VARIABLE = "CAHP_EXPLORE_ACCESS"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: A Host header: a name or an address (IPv6 in brackets), with or without a port.
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[\w.-]+))(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
#: An id on the hub (of data after "hub:"), with or without a revision and a configuration.
_HUB = re.compile(r"(?:hub:)?\w[\w.-]*/\w[\w.-]*(?:@[^\s@:]+)?(?::[^\s@:]+)?", re.ASCII)


class AccessError(CahpError):
    """A model or data may not be opened here."""


@dataclass(frozen=True)
class Access:
    """The rules; by default, everybody who reaches the loopback may open everything that this process can.

    ``hosts`` are the names and addresses of the server besides those of the loopback; ``0.0.0.0`` or ``::`` allows any
    address, but no name. ``public`` allows only built-in models and data. ``data_root`` is the only folder below which
    models and data may be opened, in public too. ``start`` are the settings and the mask that a session shows first, as
    fields of an address; they need no consent.

    Raises:
        AccessError: If ``data_root`` is no folder.
    """

    hosts: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    public: bool = False
    data_root: Path | None = None
    start: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data_root is not None:
            root = self.data_root.expanduser().resolve()
            if not root.is_dir():
                raise AccessError(f"{self.data_root} is not a folder; name one with --data-root")
            object.__setattr__(self, "data_root", root)

    def environment(self) -> dict[str, str]:
        """Return these rules as an environment variable for another process."""
        return {_VARIABLE: msgspec.json.encode(self, enc_hook=str).decode()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Access:
        """Read what ``environment()`` wrote; without it, the rules are the defaults."""
        rules = environment.get(_VARIABLE, "{}")
        return msgspec.json.decode(rules, type=cls, dec_hook=lambda kind, value: kind(value))

    # Requests ----------------------------------------------------------------------------------------------------

    def accepts_host(self, host: str) -> bool:
        """Tell whether a request with this Host header was meant for this server.

        A foreign page may point its own name to this machine after it was loaded ("DNS rebinding"). The browser then
        takes the explorer for a part of that page, but still sends the name of the page.
        """
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        named = _parse(match["six"] or match["name"])
        own = (*_LOOPBACK, *self.hosts)
        return named in map(_parse, own) or (not isinstance(named, str) and any(map(is_every_address, own)))

    def accepts_token(self, token: str) -> bool:
        """Tell whether ``token`` is right, in a time that reveals nothing about the right one."""
        return not self.token or secrets.compare_digest(token.encode(), self.token.encode())

    def address(self, host: str, port: int | None, path: str = "", *, scheme: str = "http", **query: str) -> str:
        """Return the URL of the explorer, or of a page, with the token if there is one."""
        if ":" in host:
            host = f"[{host}]"
        if port is not None:
            host = f"{host}:{port}"
        if self.token:
            query = {TOKEN: self.token, **query}
        url = f"{scheme}://{host}/{path}"
        if query:
            url = f"{url}?{urlencode(query)}"
        return url

    # Models and data ---------------------------------------------------------------------------------------------

    @property
    def opens_folders(self) -> bool:
        """Whether files of this machine can be opened by their path."""
        return not self.public or self.data_root is not None

    def source(self, name: str, *, known: Collection[str]) -> str:
        """Return the name under which a model or data may be opened: the real path below ``data_root``, or as given.

        Names in ``known`` are always allowed.

        Raises:
            AccessError: If it may not be opened; the message does not reveal whether it exists.
        """
        if name in known or (not self.public and self.data_root is None):
            return name
        if self.data_root is not None and name.strip():
            # It may not exist, no path can have this name, or links may go round in circles.
            with suppress(OSError, ValueError, RuntimeError):
                path = (self.data_root / name).resolve(strict=True)
                if _stays(path, self.data_root):
                    return str(path)
        if not self.public and _HUB.fullmatch(name) and not is_there(Path(name), Path.exists):
            return name
        allowed = ["built-in models and data"]
        if not self.public:
            allowed.append("the hub")
        if self.data_root is not None:
            allowed.append("its data folder")
        raise AccessError(f"this explorer opens only {', '.join(allowed)} and uploaded files; choose one of these")


#: Set once the server of this process checks every request against ``current()`` (``cahp.ui.server``).
enforced = Event()


@cache
def current() -> Access:
    """Return the rules that this process was started with."""
    return Access.from_environment(os.environ)


def _parse(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | str:
    """Return an address, or a name in lower case."""
    plain = host.strip("[]").lower().removesuffix(".")
    try:
        return ipaddress.ip_address(plain)
    except ValueError:
        return plain


def is_every_address(host: str) -> bool:
    """Tell whether ``host``, to listen on, stands for every address of this machine."""
    address = _parse(host)
    return not isinstance(address, str) and address.is_unspecified


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches ``host``."""
    address = _parse(host)
    if isinstance(address, str):
        return address == "localhost"
    return address.is_loopback


def reachable(host: str) -> str:
    """Replace a ``host`` that stands for every address by one under which others reach this machine."""
    if not is_every_address(host):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: this only finds out which address the machine would use to reach an unused one.
            probe.connect(("203.0.113.77", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _stays(path: Path, root: Path) -> bool:
    """Tell whether ``path``, which is resolved, and all links below it stay below ``root``."""
    if not path.is_relative_to(root):
        return False
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            entry = Path(folder, name)
            if entry.is_symlink() and not entry.resolve(strict=True).is_relative_to(root):
                return False
    return True
