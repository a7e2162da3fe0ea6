"""One visitor: what a browser tab says to the explorer's server and is told, over the same socket, without drawing it.

Streamlit's page and its server exchange protobuf messages over a WebSocket: the page asks for a run of its script with
the state of its widgets, the server answers with elements by their place in the page.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Origin, Subprotocol

from cahp.values import CahpError

#: Where the server tells what happened in a component from ("__" parts the id from the event, as in Streamlit's page).
_TRIGGERS = "$$STREAMLIT_INTERNAL_KEY_{id}__events"


class VisitError(CahpError):
    """The explorer could not be visited."""


@dataclass(frozen=True, eq=False)
class Element:
    """An element of a page as it was sent; ``fragment`` names the part of the page that it can be drawn anew with."""

    kind: str
    proto: Any
    fragment: str


class Visitor:
    """A tab that is open at ``url``, with ``cookies`` of its browser; it waits at most ``patience`` seconds."""

    def __init__(self, url: str, *, cookies: Mapping[str, str], patience: float = 60.0) -> None:
        parts = urlsplit(url)
        secure = "s" if parts.scheme == "https" else ""
        self._address = f"ws{secure}://{parts.netloc}{parts.path.rstrip('/')}/_stcore/stream"
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._cookies, self._patience = dict(cookies), patience
        self._socket: ClientConnection | None = None
        self._elements: dict[tuple[int, ...], Element] = {}
        self._known: dict[str, ForwardMsg] = {}
        self._pages: dict[str, str] = {}
        self._page = ""
        self._query = ""

    async def come(self) -> None:
        """Open the tab.

        Raises:
            VisitError: If the explorer does not let this visitor in.
        """
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        try:
            self._socket = await connect(
                self._address,
                origin=Origin(self._origin),
                subprotocols=[Subprotocol("streamlit")],
                additional_headers=headers if self._cookies else None,
                max_size=None,
                open_timeout=self._patience,
                proxy=None,
            )
        except (OSError, WebSocketException) as error:
            raise VisitError(f"{self._origin} lets nobody in ({error}); is the explorer running there?") from None

    async def leave(self) -> None:
        """Close the tab."""
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    # What a person does --------------------------------------------------------------------------------------

    async def open(self, page: str, **query: str) -> None:
        """Open a page by its name (``""`` is home), by a link of the page before if there was one."""
        asked = BackMsg()
        asked.rerun_script.query_string = urlencode(query) if query else self._query
        if page in self._pages:
            asked.rerun_script.page_script_hash = self._pages[page]
        else:
            asked.rerun_script.page_name = page
        await self._run(asked)

    async def trigger(self, key: str, event: str, value: object) -> None:
        """Have something happen in the component ``key``, and wait until the page has answered."""
        element = self.component(key)
        asked = BackMsg()
        asked.rerun_script.query_string = self._query
        asked.rerun_script.page_script_hash = self._page
        asked.rerun_script.fragment_id = element.fragment
        state = asked.rerun_script.widget_states.widgets.add()
        state.id = _TRIGGERS.format(id=element.proto.id)
        state.json_trigger_value = json.dumps([{"event": event, "value": value}])
        await self._run(asked)

    # What a person sees --------------------------------------------------------------------------------------

    def component(self, key: str) -> Element:
        """The component that the page draws under ``key``.

        Raises:
            VisitError: If it draws none.
        """
        for element in self.elements("bidi_component"):
            if element.proto.id.endswith(f"-{key}"):
                return element
        raise VisitError(f"the page shows no {key!r}")

    def data(self, key: str) -> Any:
        """What the component ``key`` was given to draw."""
        return json.loads(self.component(key).proto.json)

    def elements(self, kind: str) -> Iterator[Element]:
        """The elements of a kind that are on the page, from top to bottom."""
        for place in sorted(self._elements):
            if self._elements[place].kind == kind:
                yield self._elements[place]

    # The protocol --------------------------------------------------------------------------------------------

    async def _run(self, asked: BackMsg) -> None:
        if self._socket is None:
            raise VisitError("the tab is not open")
        try:
            async with asyncio.timeout(self._patience):
                await self._socket.send(asked.SerializeToString())
                while not self._take(await self._socket.recv()):
                    pass
        except TimeoutError:
            raise VisitError(f"the page did not come within {self._patience:.0f} s") from None
        except WebSocketException as error:
            raise VisitError(f"the explorer hung up ({error})") from None

    def _take(self, message: str | bytes) -> bool:
        """Take a message in; whether the run that was asked for has ended."""
        said = ForwardMsg()
        said.ParseFromString(message if isinstance(message, bytes) else message.encode())
        kind = said.WhichOneof("type")
        if kind == "ref_hash":
            place = list(said.metadata.delta_path)
            said = self._known[said.ref_hash]
            self._draw(place, said.delta)
        elif kind == "delta":
            if said.metadata.cacheable:
                self._known[said.hash] = said
            self._draw(list(said.metadata.delta_path), said.delta)
        elif kind == "navigation":
            self._pages = {page.url_pathname: page.page_script_hash for page in said.navigation.app_pages}
            if said.navigation.page_script_hash != self._page:
                self._elements.clear()
            self._page = said.navigation.page_script_hash
        elif kind == "page_info_changed":
            self._query = said.page_info_changed.query_string
        elif kind == "session_event" and said.session_event.WhichOneof("type") == "script_compilation_exception":
            raise VisitError("the page's script cannot be run")
        elif kind == "script_finished":
            return bool(said.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN)
        return False

    def _draw(self, place: list[int], delta: Any) -> None:
        where = tuple(place)
        for below in [other for other in self._elements if other[: len(where)] == where]:
            del self._elements[below]
        if delta.WhichOneof("type") == "new_element":
            kind = delta.new_element.WhichOneof("type")
            if kind == "exception":
                raise VisitError(f"the page shows an error: {delta.new_element.exception.type}")
            self._elements[where] = Element(kind, getattr(delta.new_element, kind), delta.fragment_id)
