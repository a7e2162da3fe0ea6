"""Home: an overview in one screen. Streamlit also starts its server here, with access control for all pages."""

from streamlit import App

from cahp.ui import server
from cahp.ui.frame.page import page
from cahp.ui.home import draw

if __name__ == "__main__":
    draw(page("Home"))
else:
    app = App(__file__, lifespan=server.lifespan, middleware=server.middleware())
