"""fadeout: what an activation, a depth and an initialisation do to the signal and its gradient.

A public name is imported when it is first used, so that completion and --help need no JAX.
`__init__.pyi` lists the names with their modules.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

try:
    __version__ = version("fadeout")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "unknown"
