"""Trains one run, or a multirun: python scripts/train.py --help."""

import sys
from pathlib import Path

import hydra

from fadeout.cli.compose import checked
from fadeout.registry import FadeoutError

CONF = Path(__file__).parents[1] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config):
    from fadeout.cli.app import run_job

    return run_job(config)


if __name__ == "__main__":
    try:
        sys.argv[1:] = checked(sys.argv[1:], CONF)
    except FadeoutError as error:
        sys.exit(str(error))
    main()
