"""Elements that answer in the browser, without asking Python first."""
