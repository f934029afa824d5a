"""Trains one run, or a multirun: fadeout train --help."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from fadeout.cli.compose import check_command_line
from fadeout.cli.menu import CONF
from fadeout.registry import FadeoutError


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(config):
    from fadeout.cli.app import Refused, run_job

    try:
        return run_job(config)
    except Refused as error:
        if HydraConfig.get().mode is not RunMode.RUN or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(error, file=sys.stderr)  # of one run Hydra would tell overrides that nobody typed
        sys.exit(1)


def main() -> int:
    try:
        sys.argv[1:] = check_command_line(sys.argv[1:], CONF)
    except FadeoutError as error:
        print(error, file=sys.stderr)
        return 1
    job()
    return 0
