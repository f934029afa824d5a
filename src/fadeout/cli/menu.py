"""Where the menu lies: beside the package in a wheel, beside the sources in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def _find_conf() -> Path:
    """The folder of the configs.

    Raises:
      FileNotFoundError: an installation without it.
    """
    for place in (_PACKAGE / "conf", _PACKAGE.parents[1] / "conf"):
        if (place / "config.yaml").is_file():
            return place
    raise FileNotFoundError(f"no configs beside {_PACKAGE}: install fadeout anew")


CONF = _find_conf()
