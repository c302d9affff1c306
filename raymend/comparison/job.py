"""A piece of work that can be named to another process."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import raymend
from raymend.comparison.cases import Case
from raymend.comparison.methods import Method
from raymend.comparison.setup import Setup
from raymend.comparison.store import key_of


@dataclass(frozen=True, kw_only=True)
class Job:
    """One method at one strength on one case.

    Args:
        case: what it works on.
        method: what works.
        strength: of its smoothing.
        setup: what all share.
        pictures: whether its images and the case's reference are kept.
    """

    case: Case
    method: Method
    strength: float
    setup: Setup
    pictures: bool = True

    @cached_property
    def key(self) -> str:
        """A name made from all that the result depends on."""
        about = self.setup
        measured = {"metrics": about.metrics, "window": about.limits, "contrast": about.contrast, "faint": about.faint}
        return key_of(
            {
                "version": raymend.__version__,
                "case": self.case.identity(about),
                "method": self.method.name,
                "identity": dict(self.method.identity),
                "strength": self.strength,
                "pictures": self.pictures,
                **measured,
            }
        )

    @cached_property
    def case_key(self) -> str:
        """A name made from all that the case's reference depends on."""
        return key_of({"version": raymend.__version__, "case": self.case.identity(self.setup)})

    @property
    def words(self) -> dict[str, Any] | None:
        """What another process makes the same job from, or None where case or method has no words."""
        if not self.case.word or not self.method.word:
            return None
        return {
            "key": self.key,
            "case": self.case.word,
            "method": self.method.word,
            "strength": self.strength,
            "setup": self.setup.as_dict(),
            "pictures": self.pictures,
        }

    @classmethod
    def of(cls, words: dict[str, Any]) -> "Job":
        """Make a job from its words."""
        from raymend.comparison.catalogue import cases_of
        from raymend.comparison.methods import methods_of

        (case,), (method,) = cases_of([words["case"]]), methods_of([words["method"]])
        setup = Setup.from_dict(words["setup"])
        return cls(case=case, method=method, strength=words["strength"], setup=setup, pictures=words["pictures"])
