"""Whether heads of one cluster are redundant: ``cahp premise``, and a claim on Compare."""
