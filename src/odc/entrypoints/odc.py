"""`odc`: runs `odc_program.py`. Ctrl+C while that is imported ends the process without a traceback.

Nothing is imported here at the top: that would be outside of the `try`.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Run one command and end the process with its exit code."""
    try:
        from odc.entrypoints.odc_program import main as run_program

        run_program()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
