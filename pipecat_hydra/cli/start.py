"""Starts the `pipecat-hydra` command: Ctrl-C ends it quietly also while its modules load.

It imports nothing at its top but `sys`, so that nearly all of the start is inside the `try`.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Load the command and run it."""
    try:
        from pipecat_hydra.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
