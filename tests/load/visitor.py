"""One browser tab without a browser: the messages it sends to the explorer's server, and what the server answers.

Streamlit's page and its server exchange protobuf messages over a WebSocket. The page asks for a run of its script with
the state of its widgets; the server answers with elements and their places in the page.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

#: The widget through which a component reports its events ("__" parts the id from the event, as in Streamlit's page).
_EVENTS = "$$STREAMLIT_INTERNAL_KEY_{id}__events"
#: Seconds that an answer may take.
_PATIENCE = 60.0


class VisitError(Exception):
    """The explorer showed an error, or none of what was expected."""


@dataclass(frozen=True, eq=False)
class Element:
    """An element of a page as it was sent; ``fragment`` names the part of the page that redraws it."""

    kind: str
    proto: Any
    fragment: str


class Visitor:
    """A tab that is open at ``url``."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: ClientConnection | None = None
        self._elements: dict[tuple[int, ...], Element] = {}
        self._cached: dict[str, ForwardMsg] = {}
        self._pages: dict[str, str] = {}
        self._page = ""
        self._query = ""

    async def connect(self) -> None:
        """Open the tab."""
        self._socket = await connect(
            f"{self._url.replace('http', 'ws', 1)}/_stcore/stream",
            origin=Origin(self._url),
            subprotocols=[Subprotocol("streamlit")],
            max_size=None,
            open_timeout=_PATIENCE,
            proxy=None,
        )

    async def close(self) -> None:
        """Close the tab."""
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    # What a person does --------------------------------------------------------------------------------------

    async def open(self, page: str, query: str = "") -> None:
        """Open a page by its name (``""`` is home), through a link of the page before if there was one."""
        message = BackMsg()
        message.rerun_script.query_string = query or self._query
        if page in self._pages:
            message.rerun_script.page_script_hash = self._pages[page]
        else:
            message.rerun_script.page_name = page
        await self._run(message)

    async def trigger(self, key: str, event: str, value: object) -> None:
        """Send an event of the component ``key``, and wait until the page has answered."""
        element = self.component(key)
        message = BackMsg()
        message.rerun_script.query_string = self._query
        message.rerun_script.page_script_hash = self._page
        message.rerun_script.fragment_id = element.fragment
        state = message.rerun_script.widget_states.widgets.add()
        state.id = _EVENTS.format(id=element.proto.id)
        state.json_trigger_value = json.dumps([{"event": event, "value": value}])
        await self._run(message)

    # What a person sees --------------------------------------------------------------------------------------

    def component(self, key: str) -> Element:
        """The component that the page draws under ``key``."""
        for element in self._elements.values():
            if element.kind == "bidi_component" and element.proto.id.endswith(f"-{key}"):
                return element
        raise VisitError(f"the page shows no {key!r}")

    def data(self, key: str) -> Any:
        """The data that the component ``key`` draws."""
        return json.loads(self.component(key).proto.json)

    def headings(self) -> str:
        """The headings of the page."""
        return "\n".join(element.proto.body for element in self._elements.values() if element.kind == "heading")

    # The protocol --------------------------------------------------------------------------------------------

    async def _run(self, message: BackMsg) -> None:
        async with asyncio.timeout(_PATIENCE):
            await self._socket.send(message.SerializeToString())
            while not self._receive(await self._socket.recv()):
                pass

    def _receive(self, content: str | bytes) -> bool:
        """Process one message of the server; returns whether the script run has ended."""
        message = ForwardMsg()
        message.ParseFromString(content if isinstance(content, bytes) else content.encode())
        kind = message.WhichOneof("type")
        if kind == "ref_hash":
            self._draw(message.metadata.delta_path, self._cached[message.ref_hash].delta)
        elif kind == "delta":
            if message.metadata.cacheable:
                self._cached[message.hash] = message
            self._draw(message.metadata.delta_path, message.delta)
        elif kind == "navigation":
            self._pages = {page.url_pathname: page.page_script_hash for page in message.navigation.app_pages}
            if message.navigation.page_script_hash != self._page:
                self._elements.clear()
            self._page = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self._query = message.page_info_changed.query_string
        elif kind == "script_finished":
            return bool(message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN)
        return False

    def _draw(self, path: Any, delta: Any) -> None:
        place = tuple(path)
        for below in [other for other in self._elements if other[: len(place)] == place]:
            del self._elements[below]
        if delta.WhichOneof("type") == "new_element":
            kind = delta.new_element.WhichOneof("type")
            if kind == "exception":
                raise VisitError(f"the page shows an error: {delta.new_element.exception.type}")
            self._elements[place] = Element(kind, getattr(delta.new_element, kind), delta.fragment_id)
