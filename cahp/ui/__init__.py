"""The explorer: a Streamlit app of several pages."""
