"""The same as: fadeout neuron."""

import sys

from fadeout.cli.neuron import main

if __name__ == "__main__":
    sys.exit(main())
