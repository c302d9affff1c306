"""What `raymend simulate` scans: a phantom by name, a patient by number, or a CT volume from a file."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from phantoms import ANATOMIES, PHANTOMS, Anatomy, VolumeObject, anatomy, phantom
from phantoms.materials import ENERGY
from recon import checks
from recon.errors import ConfigError
from recon.io import Volume, read_volume

if TYPE_CHECKING:
    from phantoms.voxels import Scannable

_PREFIX: Final = "anatomy-"
_VARIED: Final = ("thorax", "head")  # phantoms that a seed varies
UNITS: Final = {"hu": "HU", "mm": "1/mm", "1/mm": "1/mm"}

#: Names that `by_name` knows.
NAMES: Final = (*PHANTOMS, *(_PREFIX + kind for kind in ANATOMIES))


def by_name(name: str, *, patient: int | None = None, energy: float | None = None) -> "Scannable":
    """Make a phantom or a random patient.

    Args:
        name: one of `NAMES`; those that start with "anatomy-" are patients with textured organs.
        patient: which patient, 0 or more; None for patient 0, or for the published figure of a phantom.
        energy: of the beam in keV, for patients; None for 70.

    Raises:
        ConfigError: an unknown name, a patient or an energy of a figure that has none.
    """
    checks.choice("--phantom", name, NAMES)
    if patient is not None and patient < 0:
        raise ConfigError(f"--patient: expected 0 or more, got {patient}")
    if name.startswith(_PREFIX):
        return anatomy(seed=patient or 0, kind=name.removeprefix(_PREFIX), energy=ENERGY if energy is None else energy)
    if energy is not None:
        raise ConfigError(
            f"--energy: expected none with --phantom {name}, whose attenuation is fixed; leave it out, or take an "
            f"{_PREFIX}... phantom or --object"
        )
    if patient is None:
        return phantom(name)
    if name not in _VARIED:
        raise ConfigError(
            f"--patient: expected none with --phantom {name}, of which there is one; leave it out, or take "
            f"{', '.join(_VARIED)} or an {_PREFIX}... phantom"
        )
    return phantom(name, seed=patient)


def from_file(path: Path, *, energy: float | None = None, unit: str | None = None, height: float = 0.0) -> VolumeObject:
    """Read a CT volume and centre it on the rotation axis.

    Args:
        path: a file or a folder that `read_volume` knows.
        energy: of the beam in keV, at which HU become attenuation; None for 70.
        unit: "hu" or "mm" for files that do not state theirs.
        height: which height of the volume the middle of the beam meets, in mm above the volume's middle.

    Raises:
        ConfigError: no unit, an energy for a volume that is attenuation already, or a height outside the volume.
        FormatError: a file that holds no volume.
    """
    volume = _in_unit(read_volume(path), path, unit)
    if energy is not None and volume.unit != "HU":
        raise ConfigError(
            f"--energy: expected none, got {energy} keV for {path}, which is in 1/mm already; leave it out"
        )
    half = volume.grid.extent[0] / 2
    if not abs(checks.finite("--height", height, unit="mm")) <= half:
        raise ConfigError(f"--height: expected {-half:g} to {half:g} mm, where {path} is, got {height:g}")
    found = VolumeObject.of(volume, energy=ENERGY if energy is None else energy, name=path.name)
    return replace(found, grid=replace(found.grid, centre=(-height, 0.0, 0.0)))


def energy_of(thing: "Scannable") -> float | None:
    """Return the energy in keV that the attenuation of an object is for, or None for one that states none."""
    return thing.energy if isinstance(thing, Anatomy | VolumeObject) else None


def _in_unit(volume: Volume, path: Path, unit: str | None) -> Volume:
    """Return a volume with the unit that is stated; one given beside another is refused."""
    given = None if unit is None else UNITS[checks.choice("--object-unit", unit.lower(), tuple(UNITS))]
    if given is None and volume.unit == "unknown":
        span = f"{float(volume.values.min()):g} to {float(volume.values.max()):g}"
        raise ConfigError(
            f"--object-unit: expected hu or mm, got none for {path}, which states no unit; its values are {span}"
        )
    if given is not None and volume.unit not in ("unknown", given):
        raise ConfigError(f"--object-unit: expected {volume.unit}, which {path} states, got {unit}; leave it out")
    return volume if given is None else Volume(values=volume.values, grid=volume.grid, unit=given)
