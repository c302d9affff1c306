"""CT reconstruction and restoration: the package on top of `recon`, `phantoms` and `restoration`."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import phantoms as phantoms
    import recon as recon
    import restoration as restoration

__version__ = "0.1.0.dev0"

_PACKAGES = ("phantoms", "recon", "restoration")


def __getattr__(name: str) -> ModuleType:
    # On first use: importing torch takes seconds, and `raymend --help` should not.
    if name in _PACKAGES:
        return importlib.import_module(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES})
