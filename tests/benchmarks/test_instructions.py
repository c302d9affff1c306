import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
Script = Callable[[str], ModuleType]

LISTING = """
        .L_x_0:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        .L_x_1:
        /*0010*/                   IADD3 R2, R2, 0x1, RZ ;
        .L_x_2:
        /*0020*/                   FFMA R3, R3, R4, R5 ;
        /*0030*/                   FFMA R3, R3, R4, R5 ;
        /*0040*/              @P0  BRA `(.L_x_2) ;
        /*0050*/                   ISETP.GE.AND P1, PT, R2, R6, PT ;
        /*0060*/              @!P1 BRA `(.L_x_1) ;
        /*0070*/              @P2  BRA `(.L_x_3) ;
        .L_x_3:
        /*0080*/                   EXIT ;
        .L_x_4:
        /*0090*/                   BRA `(.L_x_4);
"""


def test_loops_are_found_in_a_listing(script: Script) -> None:
    assembly = script("assembly")
    code, loops = assembly.disassembled(LISTING)
    assert len(code) == 10
    assert loops == [(1, 6), (2, 4)]  # neither the branch forward nor the trap at the end
    found = assembly.Compiled(registers=1, stack=0, shared=0, code=code, loops=loops)
    assert assembly.length(found) == 3
    assert assembly.length(found, (1.5, 2.0, 9.0)) == 1.5 * 3 + 2.0 * 3
    assert assembly.length(assembly.Compiled(registers=1, stack=0, shared=0, code=code, loops=[])) == 10


@pytest.mark.parametrize(
    ("code", "bits"),
    [
        ("LDG.E R4, desc[UR4][R2.64]", 32),
        ("@!P0 LDG.E.CONSTANT R4, desc[UR4][R2.64]", 32),
        ("@P1 LDG.E.128 R8, desc[UR4][R2.64+0x10]", 128),
        ("LDG.E.64.CONSTANT R8, desc[UR4][R2.64]", 64),
        ("LDG.E.U16 R8, desc[UR4][R2.64]", 16),
        ("LDGSTS.E.128 [R2], desc[UR4][R2.64]", 0),
        ("FFMA R3, R3, R4, R5", 0),
    ],
)
def test_what_a_lane_loads_is_counted(script: Script, code: str, bits: int) -> None:
    assembly = script("assembly")
    found = assembly.Compiled(registers=1, stack=0, shared=0, code=["NOP", code, "BRA", "LDG.E R1"], loops=[(0, 2)])
    assert assembly.loaded(found) == bits


def row(script: Script, **changed: Any) -> Any:
    plain = {"case": "W3 FDK", "kernel": "read", "registers": 64, "stack": 0, "shared": 0, "loop": 448.0}
    return script("instructions").Row(**{**plain, "updates": 16.0, "per_update": 28.0, "ceiling": 30.0, **changed})


@pytest.mark.parametrize(
    ("changed", "version", "says"),
    [
        ({}, "1.0", []),
        ({"per_update": 29.3}, "1.0", []),
        ({"per_update": 29.5}, "1.0", ["29.5 instructions in an update, 28 before"]),
        ({"per_update": 29.5}, "2.0", []),  # another compiler
        ({"per_update": 31.0}, "2.0", ["31.0 instructions for an update, the ceiling is 30"]),
        ({"updates": None, "per_update": None}, "2.0", ["W3 FDK: a ceiling, but no kernel whose updates are known"]),
        ({"failed": "why"}, "2.0", ["does not compile: why"]),
        ({"stack": 8}, "2.0", ["spills 8 bytes"]),
        ({"kernel": "new"}, "1.0", ["W3 FDK: new: not in instructions.json"]),
        (
            {"updates": None, "per_update": None, "ceiling": None, "loop": 471.0},
            "1.0",
            ["471 instructions in a trip, 448 before"],
        ),
        ({"gfx942": "failed: why"}, "1.0", ["gfx942 failed: why"]),
    ],
)
def test_what_is_slower_or_unknown_is_named(
    script: Script, changed: dict[str, Any], version: str, says: list[str]
) -> None:
    before = {"loop": 448.0, "per_update": 28.0, "gfx942": "compiled"}
    table = {"triton": "1.0", "rows": {"W3 FDK: read": before}}
    found = script("instructions").complaints([row(script, **changed)], table, version)
    assert len(found) == len(says)
    for text, words in zip(found, says, strict=True):
        assert words in text


def test_updates_and_limit_are_in_the_line(script: Script) -> None:
    assert "| 28 | 30 | 1195 | compiled |" in script("instructions").line(row(script))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_kernel_spills_or_takes_more_instructions_than_before(script: Script) -> None:
    if script("assembly").tools() is None:
        pytest.skip(
            "needs Triton with ptxas, cuobjdump and nvdisasm, which it has on Linux: pip install 'raymend[triton]'"
        )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "0"}
    command = [sys.executable, str(ROOT / "benchmarks" / "instructions.py"), "--every"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((ROOT / "benchmarks" / "instructions.json").read_text())["rows"]
    for key in rows:
        case, _, kernel = key.partition(": ")
        assert f"| {case} | {kernel} |" in done.stdout
