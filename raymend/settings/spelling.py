"""The field's other names for distances and pixel steps, turned into ours; what was taken is noted."""

from collections.abc import Mapping
from typing import Any, Final

from recon.io.keys import AXIS, DETECTOR, PITCH

_SPELLINGS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "geometry": {"source_to_axis": AXIS, "source_to_detector": DETECTOR},
    "detector": {"pitch": PITCH},
}


def respelt(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the content in our spelling, notes on what was taken, and problems by path."""
    made, notes, problems = dict(content), list[str](), list[str]()
    for name, spellings in _SPELLINGS.items():
        if isinstance(content.get(name), dict):
            made[name] = _table(name, content[name], spellings, notes, problems)
    if isinstance(made.get("geometry"), dict):
        _place_sid(made["geometry"], notes, problems)
    return made, notes, problems


def _table(
    name: str, table: Mapping[str, Any], spellings: Mapping[str, tuple[str, ...]], notes: list[str], problems: list[str]
) -> dict[str, Any]:
    meanings = {spelling: ours for ours, known in spellings.items() for spelling in known}
    made: dict[str, Any] = {}
    source: dict[str, str] = {}
    for key, value in table.items():
        ours = meanings.get(key.lower(), key)
        if ours in made and made[ours] != value:
            problems.append(f"{name}.{key}: {source[ours]} and {key} both state {ours} and differ; remove one")
        elif ours != key:
            notes.append(f"[{name}] {ours} taken from {key}")
        made.setdefault(ours, value)
        source.setdefault(ours, key)
    return made


def _place_sid(table: dict[str, Any], notes: list[str], problems: list[str]) -> None:
    """Read SID by its companion: beside a detector distance it ends at the axis, otherwise at the image."""
    key = next((key for key in table if key.lower() == "sid"), None)
    if key is None:
        return
    value = table.pop(key)
    missing = [name for name in ("source_to_axis", "source_to_detector") if name not in table]
    if len(missing) == 1:
        table[missing[0]] = value
        notes.append(f"[geometry] {missing[0]} taken from {key} (beside the other distance)")
        return
    problems.append(
        f"geometry.{key}: expected a distance with one meaning, got {str(value)[:40]}; it can be source to isocentre "
        "(write source_to_axis) or source to image (write source_to_detector)"
    )
