"""Which known word a mistyped one was meant to be."""

import difflib
from collections.abc import Iterable

_CUTOFF = 0.5  # share of letters in common below which a word is no longer a near miss


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is nearest: it begins alike, holds the letters in order, or looks alike."""
    names = list(known)
    starts = [name for name in names if name.startswith(word.lower())]
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=_CUTOFF)
    shortened = [name for name in names if _shortens(word.lower(), name)]
    return next(iter([*starts, *close, *shortened]), None) if word else None


def _shortens(word: str, name: str) -> bool:
    """Tell whether the word begins as the name does and keeps three or more of its letters in order."""
    letters = iter(name)
    return len(word) > 2 and name[0] == word[0] and all(letter in letters for letter in word)
