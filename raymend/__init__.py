"""CT reconstruction and restoration: the package on top of `recon`, `phantoms` and `restoration`."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import phantoms as phantoms
    import recon as recon
    import restoration as restoration
    from raymend.comparison.run import compare as compare

__version__ = "0.1.0.dev0"

_PACKAGES = ("phantoms", "recon", "restoration")
_FUNCTIONS = {"compare": "raymend.comparison.run"}


def __getattr__(name: str) -> Any:
    # On first use: importing torch takes seconds, and `raymend --help` should not.
    if name in _PACKAGES:
        return importlib.import_module(name)
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *_FUNCTIONS})
