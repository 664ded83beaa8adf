"""The command line: parse, call the library, print. One file per command."""
