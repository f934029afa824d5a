"""The same as: fadeout best."""

import sys

from fadeout.cli.best import main

if __name__ == "__main__":
    sys.exit(main())
