"""Home: the story in one screen. Streamlit starts its server here, too: with our door in front of all pages."""

from streamlit import App

from cahp.ui import server
from cahp.ui.frame.page import page
from cahp.ui.home import draw

if __name__ == "__main__":
    draw(page("Home"))
else:
    app = App(__file__, lifespan=server.lifespan, middleware=server.middleware())
