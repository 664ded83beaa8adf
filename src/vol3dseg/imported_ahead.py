"""Imported by the server of worker processes alone: it imports what the environment names."""

import os
from contextlib import suppress
from importlib import import_module

from vol3dseg.process_starts import IMPORT_AHEAD

with suppress(BaseException):  # where memory is short: the first worker will say so of its case
    import_module(os.environ[IMPORT_AHEAD])
