"""Container images without a registry: `build` makes an archive, `load` gives it to the node."""

from testbed.images.build import build, tidy
from testbed.images.store import load

__all__ = ["build", "load", "tidy"]
