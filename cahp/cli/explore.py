"""``cahp explore``: Streamlit in a process of its own, for this machine only by default."""

import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import typer

from cahp.access import Access, is_every_address
from cahp.cli.command import Call, Option, command
from cahp.files import is_there
from cahp.run.settings import AFTERWARDS, describe, to_text
from cahp.values import CahpError, OptionError

#: Upload limits in megabytes: a file, and a message of a page.
_PUBLIC_LIMITS = ("--server.maxUploadSize=5", "--server.maxMessageSize=32")

#: The settings of a run that its view does not have: how its mask was chosen, and what else was measured.
_NOT_SHOWN = ("method", "budget", "goal", "select_time", *(set(AFTERWARDS) - {"recover", "bypass_rank"}))

#: Seconds to wait for the server to stop.
_ENDING = 10.0


@command(
    Option("run", "What each session begins with: a run, or a model (default: a bundled run).", argument=True),
    Option(
        "host",
        "Address to listen on instead of the loopback (0.0.0.0: all); repeat it for other names of this machine.",
        list[str],
        [],
    ),
    Option("port", "Port to listen on.", int, 8501, low=1024, high=65535),
    Option("token", "Require the token in the printed address.", bool, True),
    Option(
        "public",
        "Open to everybody: no token, no folders of this machine, and only presets from the hub.",
        bool,
        False,
        ("--public",),
    ),
    Option("data_root", "The only folder from which models and data may be opened, also with --public.", Path),
    Option("browser", "Open a browser window.", bool, True),
    of_call=(),
    example="cahp explore run",
)
def explore(
    call: Call,
    run: str | None,
    host: list[str],
    port: int,
    token: bool,
    public: bool,
    data_root: Path | None,
    browser: bool,
) -> None:
    """Open the explorer in a browser.

    Without --host it listens on this machine only.
    """
    hosts = [name.strip("[]").lower() for name in host]
    if any(not name or set(name) & set(" /@?#") for name in hosts):
        raise OptionError("--host must be an address or a name of this machine, without a scheme or a port")
    if any(map(is_every_address, hosts)):
        own = socket.gethostname().lower()
        hosts += [own, f"{own}.local"]
    secret = secrets.token_urlsafe(32) if token and not public else ""
    access = Access(hosts=tuple(hosts), token=secret, public=public, data_root=data_root)
    if run is not None:
        access = replace(access, start=view_of(run))
    raise typer.Exit(start(access, port=port, browser=browser))


def view_of(place: str) -> dict[str, str]:
    """The fields of an address that shows a run, or a model: its settings and its mask.

    Paths become absolute, because the server runs in another folder.

    Raises:
        CahpError: If the run is broken.
    """
    from cahp.api.options import find_run
    from cahp.exports.masks import mask_to_hex
    from cahp.exports.run_folder import read_run

    run = find_run(place)
    fields = {"model": place}
    if run is not None:
        told = run.tell([name for name in describe() if name not in _NOT_SHOWN], ())
        fields = {name: to_text(value) for name, value in {"model": run.settings.model, **told}.items()}
        fields["mask"] = mask_to_hex(read_run(Path(place)).document.mask)
    for name in {"model", "data"} & fields.keys():
        if is_there(Path(fields[name]), Path.exists):
            fields[name] = str(Path(fields[name]).resolve())
    return fields


def home() -> Path:
    """The folder that holds ``app.py``: the checkout, or the copy inside an installed wheel."""
    package = Path(__file__).parents[1]
    installed = package / "app"
    return installed if (installed / "app.py").is_file() else package.parent


def command_line(port: int) -> list[str]:
    """The command that runs the explorer on this port in the folder ``home``."""
    return [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}"]


def _can_listen(host: str, port: int) -> bool:
    """Return whether a server could listen here (port 0: on any port)."""
    family = socket.AF_INET
    if ":" in host:
        family = socket.AF_INET6
    try:
        with socket.socket(family) as probe:
            if sys.platform != "win32":
                # A port whose server has just ended is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError:
        return False
    return True


def start(access: Access, *, port: int, browser: bool) -> int:
    """Run the explorer on the first of the hosts until it is stopped, and return its exit code.

    Raises:
        CahpError: If a package of the explorer is not installed.
        OptionError: If the first host is no address of this machine, or the port is in use.
    """
    missing = [name for name in ("streamlit", "plotly", "pyvis") if importlib.util.find_spec(name) is None]
    if missing:
        raise CahpError(f"the explorer needs {', '.join(missing)}; run `pip install 'cahp-explorer[ui,demo]'`")
    command = command_line(port)
    host = "127.0.0.1"
    if access.hosts:
        host = access.hosts[0]
        if not _can_listen(host, 0):
            raise OptionError(f"--host {host} is no address of this machine; use 0.0.0.0 for all its addresses")
        command.append(f"--server.address={host}")
    if not _can_listen(host, port):
        raise OptionError(f"port {port} is in use; name another with --port")
    if access.public:
        command += _PUBLIC_LIMITS
    if not browser:
        command.append("--server.headless=true")
    # Streamlit reads its configuration from the folder it starts in. The token is passed in the environment because
    # other users can see the command.
    with subprocess.Popen(command, cwd=home(), env={**os.environ, **access.environment()}) as server:
        # A service manager ends this process and means the server.
        before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            code = server.wait()
            return code if code >= 0 else 128 - code  # a signal, as shells write it
        except KeyboardInterrupt:
            # Ctrl-C has reached the server as well, which stops by itself.
            with suppress(subprocess.TimeoutExpired):
                server.wait(timeout=_ENDING)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
            server.kill()
