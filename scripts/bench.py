"""The same as: fadeout bench."""

import sys

from fadeout.cli.bench import main

if __name__ == "__main__":
    sys.exit(main())
