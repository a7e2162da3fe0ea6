"""Whether heads of one cluster are redundant: the bundled tests of the premise, as a claim on Compare."""
