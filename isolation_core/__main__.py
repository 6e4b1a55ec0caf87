"""``python -m isolation_core``: the ``isolation`` command, for when its script is not on the path."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main() -> int:
    """Hand over to the command line, which lives in an adapter and may not be there."""
    try:
        cli: Any = importlib.import_module("isolation_script.cli")
    except ModuleNotFoundError as error:
        if error.name not in ("isolation_script", "isolation_script.cli"):
            raise
        sys.stderr.write(
            "isolation: the command line is the package isolation_script, which cannot be found; "
            "it comes with isolation-core: `python -m pip install --force-reinstall isolation-core`\n"
        )
        return 2
    code: int = cli.main()
    return code


if __name__ == "__main__":
    sys.exit(main())
