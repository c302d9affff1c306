"""Every error raymend raises on purpose, and the outcome of an iteration.

Each class also derives from the built-in it resembles, so that ``except ValueError`` keeps working, and
carries the exit code the command line ends with.
"""

from enum import Enum


class CTError(Exception):
    """Base of all errors that a user can act on."""

    exit_code = 70


class ConfigError(CTError, ValueError):
    """A setting, option or combination of settings that cannot be used."""

    exit_code = 2


class MissingExtraError(ConfigError, ImportError):
    """An optional package is needed for the feature that was asked for."""

    def __init__(self, package: str, extra: str, feature: str) -> None:
        super().__init__(f'{feature} needs the package {package}; install it with: pip install "raymend[{extra}]"')


class GeometryError(CTError, ValueError):
    """A geometry that no scanner can have, or that a method cannot use."""

    exit_code = 2


class ShapeError(CTError, ValueError):
    """An array whose shape or dtype does not fit the geometry or grid it came with."""

    exit_code = 3


class FormatError(CTError, ValueError):
    """A file, or data in it, that is damaged, unknown or contradicts itself."""

    exit_code = 3


class UnsafeFileError(FormatError):
    """A file that asks for something a reader must not do, such as running code or reading other files."""


class ResourceError(CTError, MemoryError):
    """Not enough memory, disk or device for what was asked."""

    exit_code = 4


class NumericalError(CTError, ArithmeticError):
    """Values that are not finite, or an iteration that diverged."""

    exit_code = 5


class CheckpointError(CTError, ValueError):
    """A checkpoint or weight file that is damaged or belongs to something else."""

    exit_code = 6


class WorkerError(CTError, RuntimeError):
    """A worker process or federated client that failed."""

    exit_code = 7


class CTWarning(UserWarning):
    """Something raymend noticed and did not repair silently."""


class Status(Enum):
    """How an iteration ended; the value says what to do next."""

    CONVERGED = "converged: the tolerance was reached"
    MAX_ITERATIONS = "stopped at the iteration limit: raise `iterations`, or accept if the history has levelled off"
    STOPPED = "stopped on request: pass the returned solution as `resume` to go on"
    STAGNATED = "no further progress at this precision: more iterations will not help"
    DIVERGED = "the objective rose far above its start: lower the relaxation or step, or use fewer subsets"
    NOT_FINITE = "values stopped being finite: lower the step or check the weights and data for extreme values"

    @property
    def ok(self) -> bool:
        """Tell whether the image may be used as it stands."""
        return self not in (Status.DIVERGED, Status.NOT_FINITE)

    def __str__(self) -> str:
        return self.value
