"""``python -m isolation_unittest ...``: an unmodified suite, isolated; arguments as for ``python -m unittest``."""

from __future__ import annotations

import os
import sys
import unittest
from typing import Final

from isolation_core.errors import ConfigurationError
from isolation_unittest._barriers import SESSION, print_summary
from isolation_unittest._install import isolate_suite

__all__ = ["main"]

__unittest = True

_USAGE: Final = 2


class _IsolatedProgram(unittest.TestProgram):
    """unittest's own program, which isolates what it has loaded before it runs it."""

    test: unittest.TestSuite

    def runTests(self) -> None:  # noqa: N802 - unittest's spelling
        isolate_suite(self.test)
        try:
            super().runTests()
        finally:
            print_summary()
            SESSION.journal.close()


def main() -> None:
    """Run the command line of unittest; ends by SystemExit with its exit code."""
    try:
        SESSION.start()
    except ConfigurationError as error:
        sys.stderr.write(f"isolation_unittest: {error}\n")
        sys.exit(_USAGE)
    settings = SESSION.settings
    if settings.unread is not None:
        sys.stderr.write(f"isolation_unittest: settings come from {settings.source}; {settings.unread} is not read\n")
    program = f"{os.path.basename(sys.executable)} -m isolation_unittest"
    _IsolatedProgram(module=None, argv=[program, *sys.argv[1:]])


if __name__ == "__main__":
    main()
