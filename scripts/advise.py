"""The same as: fadeout advise."""

import sys

from fadeout.cli.advise import main

if __name__ == "__main__":
    sys.exit(main())
