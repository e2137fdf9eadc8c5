"""The words everybody shares: no clock, no file, no socket."""

__version__ = "0.1.0"
