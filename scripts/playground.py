"""The same as: fadeout playground."""

import sys

from fadeout.cli.playground import main

if __name__ == "__main__":
    sys.exit(main())
