"""Faults on purpose: what six commands leave behind when writing, reading or living fails."""
