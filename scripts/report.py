"""The same as: fadeout report."""

import sys

from fadeout.cli.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
