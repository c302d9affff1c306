"""Things that a comparison tells apart by their names."""

from collections.abc import Sequence

from recon.errors import ConfigError


def check_each_once(argument: str, names: Sequence[str]) -> None:
    """Refuse no name at all, and any that comes twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        got = f"{', '.join(twice)} twice" if twice else "none"
        raise ConfigError(f"{argument}: expected one or more, each once, got {got}")
