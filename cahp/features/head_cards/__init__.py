"""Head cards: all that is known of one head, opened from every board and by a link.

Other features add sections: a panel of the page ``Card``. Below a place of 10 it is drawn above the sentences, and
otherwise at the end.
"""
