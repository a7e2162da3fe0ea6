"""What the pages show and Python draws, as Plotly figures; Plotly is imported when the first one is drawn."""
