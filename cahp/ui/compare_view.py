"""Which methods of choosing heads there are, and what can be compared today."""

from __future__ import annotations

import streamlit as st

from cahp import pipeline, registry
from cahp.ui import shell
from cahp.ui.session import Explorer
from cahp.ui.text import plain

#: What the registry's names are called on screen; a plug-in goes by its own name.
_CALLED = {pipeline.Settings().method: "CAHP (complementary)"}


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    names = registry.names()
    st.title("Is it any good?")
    if len(names) == 1:
        st.markdown(
            "A fair answer needs rivals under the same rules: the same texts, the same number of heads, the same "
            "recovery, and differences that pass a test. **The rivals are not here yet**, so this page shows no table. "
            "It fills itself as methods are added."
        )
    else:
        st.markdown(f"**{len(names)} methods** can choose heads here. Under the same rules they can be compared.")
    st.subheader("Methods that can choose heads")
    for name in names:
        with st.container(border=True, key=f"method-{name}"):
            st.markdown(f"**{plain(_CALLED.get(name, name))}**")
            st.markdown(plain(_said(name)))
            suggests = "needs a number of heads" if registry.get(name).needs_budget else "suggests how many to keep"
            st.caption(f"{suggests.capitalize()}.")
    st.subheader("What can be compared today")
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True, key="compare-budgets", height="stretch"):
        st.markdown("**Many heads against few.** Accuracy and time of every budget, with intervals.")
        st.page_link("pages/2_Budget.py", label="Open the budget board", query_params=shell.address())
    with right, st.container(border=True, key="compare-chance", height="stretch"):
        st.markdown("**CAHP against chance.** Twenty random choices of as many heads, measured on this model.")
        st.page_link("pages/6_Learn.py", label="See it in step 4 of Learn", query_params=shell.address())
    with st.expander("Bring a method of your own", key="compare-plugin"):
        st.markdown(
            "A method is one class with `name`, `needs_budget` and `choose(evidence, budget=, min_per_layer=)`. A "
            f"package that names it under the entry point group `{registry.ENTRY_POINTS}` appears here, and "
            "the number of heads and the floor of each layer are kept for it."
        )


def _said(name: str) -> str:
    """The first sentence a method says of itself."""
    words = (type(registry.get(name)).__doc__ or "").strip()
    return words.splitlines()[0] if words else "It says nothing about itself."
