"""The same as: fadeout claims."""

import sys

from fadeout.cli.claims import main

if __name__ == "__main__":
    sys.exit(main())
