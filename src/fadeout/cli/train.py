"""Trains one run, or a multirun: fadeout train --help."""

import sys

import hydra

from fadeout.cli.compose import checked
from fadeout.cli.places import CONF
from fadeout.registry import FadeoutError


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(config):
    from fadeout.cli.app import run_job

    return run_job(config)


def main() -> int:
    try:
        sys.argv[1:] = checked(sys.argv[1:], CONF)
    except FadeoutError as error:
        print(error, file=sys.stderr)
        return 1
    job()
    return 0
