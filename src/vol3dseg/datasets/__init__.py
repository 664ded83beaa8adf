"""Folders of cases: what a case is, which layouts are known, how cases are split."""
