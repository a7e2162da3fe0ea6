"""The budget board in a notebook (extra ``notebook``): a widget whose kernel measures masks."""
