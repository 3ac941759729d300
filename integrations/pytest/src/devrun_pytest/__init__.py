"""pytest fixtures for stacks of devrun."""

from .plugin import Database, DevrunError, Stack

__all__ = ["Database", "DevrunError", "Stack"]
