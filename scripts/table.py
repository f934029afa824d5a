"""The same as: fadeout table."""

import sys

from fadeout.cli.table import main

if __name__ == "__main__":
    sys.exit(main())
