"""Errors whose cure is in the reader's hands.

The command line prints any of these as one line and exits with 1; everything
else is a defect of fettle and keeps its traceback.
"""


class FettleError(Exception):
    """Base of every error a user can fix. The message names the file, the key and the cure."""


class ConfigError(FettleError):
    """A configuration that cannot be run: wrong key, type, range or combination."""


class DataError(FettleError):
    """Training or evaluation data that cannot be used as given."""


class RunError(FettleError):
    """A run folder that is missing, locked, damaged, finished or of another configuration."""


class ModelError(FettleError):
    """A model, tokenizer or adapter that cannot be loaded or used."""


class MissingExtraError(FettleError):
    """A feature whose optional dependencies are not installed."""
