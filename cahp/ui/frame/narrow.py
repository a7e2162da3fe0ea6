"""On a tablet or a phone the sidebar begins closed, and closes when a page, or a model and data, were chosen there."""

from __future__ import annotations

import streamlit as st

#: Streamlit itself closes it below 768 pixels only, and leaves it open over the page that was chosen.
_CLOSE = """
const narrow = matchMedia("(max-width: 900px)");
const sidebar = () => document.querySelector('[data-testid="stSidebar"][data-collapsed="false"]');
const close = () => {
  if (narrow.matches) sidebar()?.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
};
const chosen = (event) => {
  const ways = '[data-testid="stSidebar"] .st-key-pages a, .st-key-use-source button';
  if (event.target.closest?.(ways)) setTimeout(close, 0);
};
export default function () {
  // Once in the life of the document: whoever opens it later wants it open.
  if (document.cahpNarrow) return;
  document.cahpNarrow = true;
  close();
  document.documentElement.dataset.cahpNarrow = "";
  document.addEventListener("click", chosen);
}
"""


def close_sidebar() -> None:
    """Draw what closes it; takes no room."""
    st.components.v2.component("cahp_narrow", js=_CLOSE)(key="narrow", height="content")
