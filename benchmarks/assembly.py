"""What a Triton kernel compiles to, without a GPU: registers, spills, shared memory and the instructions of its loops.

The specialisation is the one that Triton itself would choose for the arguments of a launch, by its own binder; the
tensors may be on the CPU and empty. The compiler and the disassembler are those of NVIDIA that Triton brings.
"""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NVIDIA, AMD = ("cuda", 90, 32), ("hip", "gfx942", 64)  # H100 and H200; MI300


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A kernel with everything that decides what it is compiled to."""

    kernel: Any
    arguments: tuple[Any, ...]
    constants: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.kernel.fn.__module__.rpartition('.')[2]}.{self.kernel.fn.__name__}"


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """Machine code and what it needs."""

    registers: int
    stack: int  # bytes a thread spills
    shared: int  # bytes a program shares
    code: list[str]
    loops: list[tuple[int, int]]  # first and last instruction, backward branch included


def tools() -> Path | None:
    """Return the folder of NVIDIA's compiler and disassemblers within Triton, or None where Triton has none."""
    try:
        import triton.backends
    except ImportError:
        return None
    folder = Path(triton.backends.__file__).parent / "nvidia" / "bin"
    return folder if all((folder / name).exists() for name in ("ptxas", "cuobjdump", "nvdisasm")) else None


def build(launch: Launch, machine: tuple[Any, ...]) -> Any:
    """Compile a launch for a machine as Triton would on it."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend
    from triton.runtime.jit import create_function_from_signature

    target = GPUTarget(*machine)
    backend = make_backend(target)
    bind = create_function_from_signature(launch.kernel.signature, launch.kernel.params, backend)
    bound, specialised, options = bind(*launch.arguments, **launch.constants, enable_fp_fusion=True)
    settings, signature, constants, attributes = launch.kernel._pack_args(backend, options, bound, specialised, options)
    source = ASTSource(launch.kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=settings.__dict__)


def key(launch: Launch) -> str:
    """Tell launches apart that are compiled apart."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    backend = make_backend(GPUTarget(*NVIDIA))
    bind = create_function_from_signature(launch.kernel.signature, launch.kernel.params, backend)
    _, specialised, options = bind(*launch.arguments, **launch.constants)
    return f"{launch.name} {specialised} {options}"


def compiled(launch: Launch) -> Compiled:
    """Compile a launch for an H200 and take the machine code apart."""
    folder, found = tools(), build(launch, NVIDIA)
    assert folder is not None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(found.asm["cubin"])
        file.flush()
        usage = _printed(folder / "cuobjdump", "-res-usage", file.name)
        code, loops = disassembled(_printed(folder / "nvdisasm", "-c", file.name))
    registers, stack = (int(number) for number in re.findall(r"REG:(\d+) STACK:(\d+)", usage)[0])
    return Compiled(registers=registers, stack=stack, shared=int(found.metadata.shared), code=code, loops=loops)


def _printed(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def disassembled(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the instructions of a listing, and its loops: where a branch leads back, and where it stands."""
    code: list[str] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);", line):
            code.append(instruction[1])
    targets = ((re.search(r"\bBRA\b.*?`\((\.L_x_\d+)\)", one), at) for at, one in enumerate(code))
    loops = [(labels[target[1]], at) for target, at in targets if target and labels.get(target[1], at) < at]
    return code, sorted(loops)


def innermost(loops: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the longest loop that holds no other one."""
    inner = [one for one in loops if not any(_within(other, one) for other in loops)]
    return max(inner, key=lambda loop: loop[1] - loop[0], default=None)


def around(loops: Sequence[tuple[int, int]], inner: tuple[int, int]) -> tuple[int, int] | None:
    """Return the shortest loop that holds another one."""
    return min((one for one in loops if _within(inner, one)), key=lambda loop: loop[1] - loop[0], default=None)


def _within(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return inner != outer and outer[0] <= inner[0] and inner[1] <= outer[1]


def length(found: Compiled, trips: Sequence[float] = (1.0,)) -> float:
    """Count the instructions of so many trips of the hot loop, of the loop around it, and so on outwards."""
    loop = innermost(found.loops)
    if loop is None:
        return len(found.code)
    total, inside = 0.0, 0
    for count in trips:
        if loop is None:
            break
        size = loop[1] - loop[0] + 1
        total += count * (size - inside)
        loop, inside = around(found.loops, loop), size
    return total


def loaded(found: Compiled) -> int:
    """Count the bits that a lane loads from global memory in a trip of the innermost loop."""
    hot = innermost(found.loops)
    first, last = hot if hot is not None else (0, len(found.code) - 1)
    names = [re.match(r"(?:@!?U?P\w+ +)?(LDG(?:\.\w+)*) ", one) for one in found.code[first : last + 1]]
    widths = [re.search(r"\.[US]?(8|16|64|128)\b", name[1]) for name in names if name]
    return sum(int(width[1]) if width else 32 for width in widths)
