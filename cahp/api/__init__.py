"""The use cases: the verbs of the command line as functions, whose results show, draw and save themselves."""
