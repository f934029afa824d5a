"""The same as: fadeout atlas."""

import sys

from fadeout.cli.atlas import main

if __name__ == "__main__":
    sys.exit(main())
