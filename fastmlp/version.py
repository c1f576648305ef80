"""Which version of fastmlp this is."""

__version__ = "0.1.0"
