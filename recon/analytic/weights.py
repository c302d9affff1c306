"""Weights that make every ray count once: view steps, cosine, Parker and offset detector."""

import math
import warnings

import torch
from torch import Tensor

from recon.errors import CTWarning, GeometryError
from recon.geometry import ConeBeam, ParallelBeam
from recon.geometry.coverage import Coverage, coverage

_CLOSE = 0.05  # an offset below this share of the half width leaves a short scan (nearly) every ray it needs
_BLEND = (0.2, 50)  # a half-fan's weight leaves 1/2 over this share of the shared columns, and this many at least


def redundancy(geometry: ParallelBeam | ConeBeam, *, limited_angle: bool = False) -> Tensor:
    """Return the weight of each ray, the view step included, so that every line counts once.

    Args:
        geometry: a parallel, fan or circular cone scan.
        limited_angle: accept a scan that misses part of what an exact image needs.

    Returns:
        Weights in rad, (view, 1, column), float64.

    Raises:
        GeometryError: too short an arc (with the missing degrees), or an offset detector without a full turn.
    """
    if is_half_fan(geometry):
        return _half_fan(geometry)
    if isinstance(geometry, ParallelBeam):
        return _parallel(geometry, limited_angle)
    turn, fan = coverage(geometry.angles), geometry.fan_angles()
    if turn.full:
        return (turn.steps / 2)[:, None, None].expand(-1, 1, len(fan))
    return _short_scan(geometry, turn, fan, limited_angle)


def _parallel(geometry: ParallelBeam, limited_angle: bool) -> Tensor:
    half = coverage(geometry.angles, half_turn=True)
    if not half.full:
        _refuse_short(math.pi - half.span, "a half turn", limited_angle)
    return half.steps[:, None, None].expand(-1, 1, geometry.detector.shape[1])


def _short_scan(geometry: ConeBeam, turn: Coverage, fan: Tensor, limited_angle: bool) -> Tensor:
    if _shift(geometry) > _CLOSE:
        _refuse_short(2 * math.pi - turn.span, "a full turn for an offset detector", limited_angle)
    missing = math.pi + 2 * float(fan.abs().max()) - turn.span
    if missing > 1e-6 + float(turn.steps.median()):
        _refuse_short(missing, "a half turn and the fan angle", limited_angle)
        return _counted(geometry, turn, fan)
    return parker(geometry, turn, fan) * turn.steps[:, None, None]


def parker(geometry: ConeBeam, turn: Coverage, fan: Tensor) -> Tensor:
    """Return Parker's smooth weights for a scan of a half turn and at least the fan: (view, 1, column).

    An arc longer than needed is treated as that of a wider fan.

    Source:
        Parker 1982, Medical Physics 9(2): 254-257; Silver 2000, Medical Physics 27(4): 773-774.
    """
    beta = _progress(geometry, turn)
    half = max((turn.span - math.pi) / 2, float(fan.abs().max()) + 1e-9)
    rise, fall = half + fan[None], half - fan[None]  # our opposite ray is at beta + π - 2 fan
    weights = torch.ones_like(beta * fan[None])
    weights = torch.where(beta < 2 * rise, torch.sin(math.pi / 4 * beta / rise) ** 2, weights)
    left = math.pi + 2 * half - beta
    weights = torch.where(left < 2 * fall, torch.sin(math.pi / 4 * left / fall) ** 2, weights)
    return weights[:, None, :]


def _counted(geometry: ConeBeam, turn: Coverage, fan: Tensor) -> Tensor:
    """Weight each ray by how often it or its opposite was measured."""
    beta = _progress(geometry, turn)
    later, earlier = beta + math.pi - 2 * fan[None], beta - math.pi - 2 * fan[None]
    seen = ((later <= turn.span) | (earlier >= 0)).double() + 1
    return (turn.steps[:, None] / seen)[:, None, :]


def _progress(geometry: ConeBeam, turn: Coverage) -> Tensor:
    """Return the angle of each view since the start of the arc, from half a step on: (view, 1)."""
    theta = torch.tensor(geometry.angles, dtype=torch.float64)
    since = (theta - turn.start + 1e-9).remainder(2 * math.pi) - 1e-9
    return (since + float(turn.steps.median()) / 2)[:, None]


def _half_fan(geometry: ParallelBeam | ConeBeam) -> Tensor:
    """Share the lines that both sides of a shifted detector see; the others were seen once and count once.

    The weights of opposite rays sum to 1 and blend smoothly to 0 and 1 next to the columns that one side sees.

    Source:
        Wang 2002, Medical Physics 29(7): 1634-1636; narrower over many shared columns, to waste fewer photons.
    """
    turn = coverage(geometry.angles)
    angle = geometry.fan_angles() if isinstance(geometry, ConeBeam) else geometry.detector.coordinates()[1]
    side = 1.0 if geometry.detector.offset[1] > 0 else -1.0
    shared = float((-side * angle).max())
    if shared <= 0:
        raise GeometryError("offset: the detector does not see the rotation axis; no view pair overlaps")
    place = (side * angle / shared).clamp(-1, 1)
    weights = (1 + _step(place, int((side * angle < shared).sum()) // 2)) / 2
    return (turn.steps[:, None] * weights[None])[:, None, :]


def _step(place: Tensor, columns: int) -> Tensor:
    """Rise from -1 to 1 as `place` does: by a sine over few shared columns, with a long flat middle over many."""
    blend = max(_BLEND[0], _BLEND[1] / max(1, columns))
    if blend > 0.5:
        return torch.sin(math.pi / 2 * place)
    rise = ((place.abs() - (1 - blend)) / blend).clamp(0, 1)
    return place.sign() * rise**2 * (3 - 2 * rise)


def is_half_fan(geometry: ParallelBeam | ConeBeam) -> bool:
    """Tell a full turn with a shifted detector, in which some lines are seen twice and some once."""
    return abs(geometry.detector.offset[1]) > 0.01 * geometry.detector.pitch[1] and coverage(geometry.angles).full


def _shift(geometry: ConeBeam) -> float:
    """Return the offset as a share of the detector's half width."""
    detector = geometry.detector
    return abs(detector.offset[1]) / (detector.shape[1] * detector.pitch[1] / 2)


def _refuse_short(missing: float, needed: str, limited_angle: bool) -> None:
    short = f"angles: expected {needed}; {math.degrees(missing):.1f} degrees are missing"
    if not limited_angle:
        raise GeometryError(
            f"{short}. Use an iterative method, or pass limited_angle=True (--limited-angle) to accept the artefacts"
        )
    warnings.warn(f"{short}; values and edges along the missing directions are wrong", CTWarning, stacklevel=7)


def cosine(geometry: ConeBeam) -> Tensor:
    """Return the cosine of the angle between each ray and the central one: (1, row, column), float64.

    On an arc detector this is the cosine of the fan angle times that of the cone angle.
    """
    v, u = geometry.detector.coordinates()
    distance = geometry.source_to_detector
    if geometry.arc_detector:
        flat = (u / distance).cos()[None, :] * (distance / torch.hypot(v, torch.tensor(distance)))[:, None]
    else:
        flat = distance / (v[:, None] ** 2 + u[None, :] ** 2 + distance**2).sqrt()
    return flat[None]
