"""How many instructions every Triton kernel takes for an update, and whether any spills: compiled, not run.

    python benchmarks/instructions.py [--write] [--only NAME ...] [--every]

Calls what the operators call, with empty tensors as large as those of W1 to W4, records what would be launched on an
H200 and compiles each of it (assembly.py). Needs Triton for Linux, no GPU. Without --write the figures are compared
with those in instructions.json: a kernel that spills, needs more than 5 % more instructions for an update than written
there or more than the ceiling of its case, or stands not there at all, ends the script with 1. Another version of
Triton compiles otherwise: then only spills and ceilings are compared. Every kernel is compiled for gfx942, too.
With --every, so is what small scans of every geometry of the tests launch, in both precisions: what Triton's
interpreter runs need not compile.

An update is a voxel of a view in backprojection and a line of voxels crossed by a ray in projection. The limit is that
of the issue slots: 132 processors × 128 lanes × 1.98 GHz over the instructions of an update.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import assembly
from assembly import Launch

TABLE = Path(__file__).parent / "instructions.json"
SLOTS = 132 * 128 * 1.98  # lane-instructions an H200 issues, 1e9 a second
SLACK = 1.05
HEAD = (
    "case",
    "kernel",
    "registers",
    "spilled B",
    "shared B",
    "loop",
    "updates",
    "per update",
    "ceiling",
    "GUPS by issue",
    "gfx942",
)

Known = Mapping[str, Any]  # arguments and constants of a launch by name


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How many updates the counted trips of a kernel's hot loop do.

    Either by what the kernel was told, for all threads of a program together; or by what a lane loads in the loop: that
    holds whether the compiler unrolls it or not, where nothing else is loaded in it.
    """

    updates: Callable[[Known], float] | None = None
    bits: Callable[[Known], float] | None = None  # that an update loads
    trips: Callable[[Known], tuple[float, ...]] = lambda known: (1.0,)  # of the innermost loop and outwards, on average

    def per_lane(self, known: Known, loaded: int) -> float:
        if self.bits is not None:
            return loaded / self.bits(known)
        assert self.updates is not None
        return self.updates(known) / (32 * known["num_warps"])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call of the product, and the most instructions for an update that its kernel may take."""

    name: str
    call: Callable[[], object]
    ceiling: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one kernel of a case compiles to; numbers of updates are None for kernels that only prepare."""

    case: str
    kernel: str
    registers: int
    stack: int
    shared: int
    loop: float
    updates: float | None = None
    per_update: float | None = None
    ceiling: float | None = None
    gfx942: str = "compiled"
    failed: str = ""  # why an H200 cannot run it

    @property
    def key(self) -> str:
        return f"{self.case}: {self.kernel}"


def _chunk(known: Known) -> float:
    """Return the updates of a chunk of bins: those of a tile and a view, shared by the chunks these take on average."""
    tiles, views = len(known["FIRST"]) - 1, len(known["values"])
    chunks = float(known["FIRST"][-1]) / (tiles * views)
    return float(known["TILE"] ** 2 * known["LANES"]) / chunks


# By the name of the kernel. What is not named here is compiled and compared, but has no updates.
RULES = {
    "plane_rays.project_image": Rule(bits=lambda known: 2 * 32),
    "plane_rays.project_stack": Rule(bits=lambda known: 2 * 8 * known["images"].element_size()),
    "plane_pixels.spread_image": Rule(updates=lambda known: known["TY"] * known["TX"]),
    "plane_pixels.spread_stack": Rule(updates=_chunk),
    "cone_kernels.project_columns": Rule(updates=lambda known: 4 * known["ROWS"]),
    # Two lines of four columns of voxels, which in W3 5.0 detector columns of a view can touch on average; it has 1.5
    # runs of columns whose rays have one main axis.
    "cone_kernels.spread_columns": Rule(updates=lambda known: 8 * known["HEIGHTS"], trips=lambda known: (5.0, 1.5)),
    "joseph._forward": Rule(bits=lambda known: 4 * 8 * known["volume"].element_size()),
    # Windows of three rows by three columns, as in W3; both ways through a view are counted, one is gone.
    "joseph._adjoint": Rule(
        updates=lambda known: known["LANES"], trips=lambda known: (9.0 / known.get("AT_ONCE", 1), 3.0, 1.0)
    ),
    "slopes._sums": Rule(bits=lambda known: 4 * 8 * known["volume"].element_size()),
    "steady._columns": Rule(updates=lambda known: 4 * min(known["BZ"], known["nz"])),
    "shadow_lines._lines": Rule(updates=lambda known: 4 * min(known["LENGTH"], known["nx"])),
    "shadow_stack._pixels": Rule(updates=lambda known: 4 * min(known["BS"], known["images"])),
}


def cases() -> Iterator[Case]:
    """Yield every product function at the sizes of W1 to W4; with few views, since tables are made for each."""
    import torch
    from cases import workloads

    from recon.kernels import gpu
    from recon.kernels.lines import lines
    from recon.kernels.maps import maps

    work = workloads(quick=False)
    fan, cone, parallel = work["W1"].geometry[::15], work["W3"].geometry[::9], work["W4"].geometry[::15]
    flat, box = work["W1"].grid, work["W3"].grid
    in_plane, in_space = lines(fan, flat), lines(cone, box)
    tilted = lines(*_tilted(cone, box))

    def project(rays: Any, batch: int = 1, **precision: str) -> Callable[[], object]:
        return lambda: gpu.forward(rays, torch.empty(batch, *rays.grid_shape), **precision)

    def spread(rays: Any, batch: int = 1, **precision: str) -> Callable[[], object]:
        return lambda: gpu.adjoint(rays, torch.empty(batch, *rays.shape), **precision)

    yield Case(name="W1 forward", call=project(in_plane), ceiling=110)
    yield Case(name="W1 adjoint", call=spread(in_plane), ceiling=171)
    for slices in (32, 128):
        stack = f"W2 of {slices} slices"
        for precision in ("single", "half"):
            call = project(in_plane, slices, precision=precision)
            yield Case(name=f"{stack}, forward, {precision}", call=call, ceiling=9.5 if precision == "single" else None)
        for precision, ceiling in (("single", 17.5), ("tf32", 11.0), ("half", 10.0)):
            call = spread(in_plane, slices, precision=precision)
            yield Case(name=f"{stack}, adjoint, {precision}", call=call, ceiling=ceiling)
    yield Case(name="W3 forward", call=project(in_space), ceiling=45)
    yield Case(name="W3 adjoint", call=spread(in_space), ceiling=63)
    yield Case(name="W3 tilted, forward", call=project(tilted))
    yield Case(name="W3 tilted, adjoint", call=spread(tilted))
    shadows = maps(cone, box, unit=cone.source_to_axis)
    arc = _arc(cone)
    on_arc, slice_shadows = maps(arc, box, unit=arc.source_to_axis), maps(parallel, flat, unit=1.0)
    fan_shadows = maps(fan, flat, unit=fan.source_to_axis)

    def read(places: Any, batch: int = 1, **precision: str) -> Callable[[], object]:
        shape = len(places.matrices), *places.detector_shape
        return lambda: gpu.backproject(places, torch.empty(batch, *shape), **precision)

    yield Case(name="W3 FDK", call=read(shadows), ceiling=28)
    yield Case(name="W3 FDK, half", call=read(shadows, precision="half"), ceiling=33)
    yield Case(name="W3 FDK, arc", call=read(on_arc))
    yield Case(name="W4 FBP", call=read(slice_shadows))
    yield Case(name="W4 FBP of 32 slices", call=read(slice_shadows, 32))
    yield Case(name="W1 FBP", call=read(fan_shadows))
    volume, values = torch.empty(1, *box.shape), torch.empty(1, *cone.shape)
    yield from _in_double(gpu, in_plane, in_space, tilted, shadows)
    yield Case(name="W3 transposed FDK", call=lambda: gpu.backproject_adjoint(shadows, volume))
    yield Case(name="W3 gradient to rays", call=lambda: gpu.ray_gradient(in_space, volume, values))
    yield Case(name="W3 gradient to maps", call=lambda: gpu.map_gradient(shadows, values, volume))


def _in_double(gpu: Any, in_plane: Any, in_space: Any, tilted: Any, shadows: Any) -> Iterator[Case]:
    """Yield what is compiled for double precision, which is for checks, not for speed: nothing may fail or spill."""
    import torch

    def empty(*shape: int) -> Any:
        return torch.empty(1, *shape, dtype=torch.float64)

    for name, rays in (("W1", in_plane), ("W3", in_space), ("W3 tilted", tilted)):
        volume, values = empty(*rays.grid_shape), empty(*rays.shape)
        yield Case(name=f"{name}, double, forward", call=partial(gpu.forward, rays, volume))
        yield Case(name=f"{name}, double, adjoint", call=partial(gpu.adjoint, rays, values))
    volume, values = empty(*in_space.grid_shape), empty(*in_space.shape)
    yield Case(name="W3, double, FDK", call=partial(gpu.backproject, shadows, values))
    yield Case(name="W3, double, transposed FDK", call=partial(gpu.backproject_adjoint, shadows, volume))
    yield Case(name="W3, double, gradient to rays", call=partial(gpu.ray_gradient, in_space, volume, values))
    yield Case(name="W3, double, gradient to maps", call=partial(gpu.map_gradient, shadows, values, volume))


def _tilted(cone: Any, box: Any) -> tuple[Any, Any]:
    """Turn the detector by a hundredth of a radian out of the axis."""
    import torch

    from recon.geometry import FreeBeam, rotation_matrices

    rays = cone.rays()
    rays[:, 2:] = rays[:, 2:] @ rotation_matrices(torch.full((1, 3), 0.01, dtype=torch.float64))
    return FreeBeam(vectors=rays.tolist(), detector=cone.detector), box


def _arc(cone: Any) -> Any:
    return replace(cone, detector=replace(cone.detector, curve="arc"))


def recorded(call: Callable[[], object]) -> list[Launch]:
    """Return what a call would launch, each specialisation once."""
    from recon.kernels.gpu import launch

    found: dict[str, Launch] = {}

    def note(kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], constants: dict[str, Any]) -> None:
        one = Launch(kernel=kernel, arguments=arguments, constants=constants)
        found.setdefault(assembly.key(one), one)

    launch.record = note
    try:
        call()
    finally:
        launch.record = None
    return list(found.values())


def rows(case: Case) -> Iterator[Row]:
    """Compile what a case launches; specialisations of one kernel are numbered."""
    counts: dict[str, int] = {}
    for one in recorded(case.call):
        counts[one.name] = counts.get(one.name, 0) + 1
        number = f" ({counts[one.name]})" if counts[one.name] > 1 else ""
        yield measured(case, one.name + number, one)


def measured(case: Case, name: str, one: Launch) -> Row:
    """Compile a launch for both machines."""
    try:
        found = assembly.compiled(one)
    except Exception as reason:
        return Row(case=case.name, kernel=name, registers=0, stack=0, shared=0, loop=0, failed=_words(reason))
    rule = RULES.get(one.name)
    known = {**_numbers(one), **one.constants}
    loop = assembly.length(found, rule.trips(known) if rule else (1.0,))
    counts = {"registers": found.registers, "stack": found.stack, "shared": found.shared, "loop": loop}
    row = Row(case=case.name, kernel=name, ceiling=case.ceiling, **counts)
    if rule is not None:
        updates = rule.per_lane(known, assembly.loaded(found))
        row = replace(row, updates=updates, per_update=round(loop / updates, 2))
    try:
        assembly.build(one, assembly.AMD)
    except Exception as reason:
        row = replace(row, gfx942=f"failed: {_words(reason)}")
    return row


def _words(reason: BaseException) -> str:
    """Return what is at the bottom of an error, on one line."""
    while reason.__cause__ is not None:
        reason = reason.__cause__
    return " ".join(str(reason).replace("|", "/").split())[-120:] or type(reason).__name__


def _numbers(one: Launch) -> dict[str, Any]:
    """Return the constants of a launch that were passed by position."""
    return dict(zip(one.kernel.arg_names, one.arguments, strict=False))


def complaints(found: Sequence[Row], table: Mapping[str, Any], version: str) -> list[str]:
    """Name every kernel that spills, is over its ceiling, or is slower than the table or missing from it."""
    texts = [f"{row.key}: does not compile: {row.failed}" for row in found if row.failed]
    texts += [f"{name}: a ceiling, but no kernel whose updates are known; see RULES" for name in _unruled(found)]
    texts += [f"{row.key}: spills {row.stack} bytes" for row in found if row.stack]
    texts += [
        f"{row.key}: {row.per_update:.1f} instructions for an update, the ceiling is {row.ceiling:g}"
        for row in found
        if row.per_update is not None and row.ceiling is not None and row.per_update > row.ceiling
    ]
    if version != table["triton"]:
        return texts
    known = table["rows"]
    return texts + [text for row in found for text in _compared(row, known.get(row.key))]


def _unruled(found: Sequence[Row]) -> list[str]:
    """Name the cases with a ceiling of which no kernel has known updates: a kernel that was renamed escapes else."""
    ruled = {row.case for row in found if row.per_update is not None or row.failed}
    return sorted({row.case for row in found if row.ceiling is not None} - ruled)


def _compared(row: Row, before: Mapping[str, Any] | None) -> Iterator[str]:
    if before is None:
        yield f"{row.key}: not in {TABLE.name}; run benchmarks/instructions.py --write"
        return
    measure = "loop" if row.per_update is None or before["per_update"] is None else "per_update"
    now, then = getattr(row, measure), before[measure]
    if now > SLACK * then:
        yield f"{row.key}: {now:g} instructions in {'a trip' if measure == 'loop' else 'an update'}, {then:g} before"
    if row.gfx942 != "compiled" and before["gfx942"] == "compiled":
        yield f"{row.key}: gfx942 {row.gfx942}"


def line(row: Row) -> str:
    """Write a row as a line of Markdown."""
    most = "" if row.per_update is None else f"{SLOTS / row.per_update:.0f}"
    numbers = (row.registers, row.stack, row.shared, row.loop, row.updates, row.per_update, row.ceiling)
    cells = (row.case, row.kernel, *("" if n is None else f"{n:g}" for n in numbers), most, row.failed or row.gfx942)
    return "| " + " | ".join(cells) + " |"


def measure(only: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Measure all cases, or those with some words in their names; also return which have no kernel yet."""
    from recon.errors import ResourceError

    found: list[Row] = []
    missing = []
    print("| " + " | ".join(HEAD) + " |\n" + "| " + " | ".join("---" for _ in HEAD) + " |")
    for case in cases():
        if only and not any(word in case.name for word in only):
            continue
        try:
            here = list(rows(case))
        except ResourceError as reason:
            missing.append(f"{case.name}: {reason}")
            continue
        found += here
        print("\n".join(map(line, here)), flush=True)
    return found, missing


def compile_every() -> list[str]:
    """Compile what scans of every geometry of the tests launch; return what fails or spills."""
    texts = []
    for name, one in every().items():
        try:
            found = assembly.compiled(one)
        except Exception as reason:
            texts.append(f"{name}: does not compile: {_words(reason)}")
            continue
        texts += [f"{name}: spills {found.stack} bytes"] * bool(found.stack)
    return texts


def every() -> dict[str, Launch]:
    """Return the launches for every geometry of the tests, in both precisions; one of those that differ in sizes."""
    import torch

    sys.path.insert(0, str(TABLE.parents[1]))
    from recon.kernels import gpu
    from recon.kernels.maps import maps
    from tests.contracts.geometries import CASES

    found: dict[str, Launch] = {}
    for dtype in (torch.float32, torch.float64):
        for case in CASES:
            rays, places = case.projector().lines, maps(case.geometry, case.grid, unit=30.0, poses=case.poses)
            for batch in (1, 9):  # alone, and side by side
                volume = torch.zeros(batch, *case.grid.shape, dtype=dtype)
                values = torch.zeros(batch, *case.geometry.shape, dtype=dtype)
                for call in _calls(gpu, rays, places, volume, values):
                    for one in _launched(call):
                        found.setdefault(f"{case}, {batch} of {str(dtype)[6:]}: {one.name}{_told(one)}", one)
    distinct = {_told(one) + one.name: (name, one) for name, one in reversed(found.items())}
    return dict(distinct.values())


def _calls(gpu: Any, rays: Any, places: Any, volume: Any, values: Any) -> list[Callable[[], object]]:
    precise = [partial(gpu.forward, rays, volume, way) for way in ("tf32", "half")]
    precise += [partial(gpu.adjoint, rays, values, way) for way in ("tf32", "half")]
    return [
        partial(gpu.forward, rays, volume),
        partial(gpu.adjoint, rays, values),
        partial(gpu.backproject, places, values),
        partial(gpu.backproject, places, values, "half"),
        partial(gpu.backproject_adjoint, places, volume),
        partial(gpu.ray_gradient, rays, volume, values),
        partial(gpu.map_gradient, places, values, volume),
        *precise,
    ]


def _launched(call: Callable[[], object]) -> list[Launch]:
    from recon.errors import ResourceError

    try:
        return recorded(call)
    except ResourceError:  # no kernel yet
        return []


def _told(one: Launch) -> str:
    """Write down the constants of a launch that choose code, and the types of its tensors."""
    types = [str(argument.dtype)[6:] for argument in one.arguments if hasattr(argument, "dtype")]
    return f" { ({name: value for name, value in one.constants.items() if name != 'PITCH'}) } {' '.join(types)}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Instructions of every Triton kernel for an update, without a GPU.")
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"write {TABLE.name} instead of comparing with it, with --only some rows of it",
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="WORDS", help="cases whose names hold any of these")
    parser.add_argument("--every", action="store_true", help="also compile, uncounted, what every geometry launches")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    os.environ["TRITON_INTERPRET"] = "0"  # before Triton is loaded
    if assembly.tools() is None:
        print("not measured: this Triton has no ptxas, cuobjdump and nvdisasm (it has them on Linux)", file=sys.stderr)
        return 2
    import triton

    found, missing = measure(arguments.only)
    print("\n".join(missing))
    if arguments.write:
        from table import write

        kept = json.loads(TABLE.read_text())["rows"] if arguments.only else {}
        record = {"triton": triton.__version__, "rows": {**kept, **{row.key: asdict(row) for row in found}}}
        write(TABLE, json.dumps(record, indent=1) + "\n")
        return 0
    table = json.loads(TABLE.read_text())
    texts = complaints(found, table, triton.__version__) + (compile_every() if arguments.every else [])
    if not arguments.only:
        texts += [f"{key}: no longer launched" for key in table["rows"] if key not in {row.key for row in found}]
    if triton.__version__ != table["triton"]:
        print(f"Triton {triton.__version__}, the table is of {table['triton']}: only spills and ceilings are compared")
    print("\n".join(texts) or "no kernel spills or takes more instructions than before")
    return int(bool(texts))


if __name__ == "__main__":
    sys.exit(main())
