"""The same as: fadeout plot."""

import sys

from fadeout.cli.commands.plot import main

if __name__ == "__main__":
    sys.exit(main())
