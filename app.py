"""The home page."""

import streamlit as st

st.write("CAHP Explorer")
