"""Isolation for plain scripts: a decorator for their steps, and the `isolation` command."""

from isolation_script._decorator import isolated

__all__ = ["isolated"]
