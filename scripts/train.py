"""The same as: fadeout train."""

import sys

from fadeout.cli.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
