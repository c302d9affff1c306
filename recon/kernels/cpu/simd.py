"""Sixteen float32 lanes inside numba: explicit SIMD in LLVM intrinsics, for kernels that vectorisers do not find.

Values of type `floats` and `ints` are ordinary locals of a compiled function and stay in registers; LLVM splits
them for narrower processors. Only `pick` and `pick_wide`, reads at sixteen nearby places, depend on the processor:
they load whole runs and permute them, because hardware gathers are slow on most processors. `instruction_set` says
which form is compiled. Numba keys its cache by the processor's features, and `compile` adds this choice.

Arrays are one-dimensional, contiguous and float32. Nothing checks bounds: the caller pads.
"""

import operator
import os
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numba.extending
from llvmlite import ir
from numba.core import cgutils, codegen, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model
from numba.np.arrayobj import populate_array

from recon.errors import ConfigError, ResourceError

LANES = 16
NAMES = ("avx512", "avx2", "portable")
_NEEDS = {"avx512": ("avx512f",), "avx2": ("avx2", "fma"), "portable": ()}

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_HALF_FLOATS, _HALF_INTS = ir.VectorType(_F32, 8), ir.VectorType(_I32, 8)
_settings: Any = numba.config
intrinsic: Any = numba.extending.intrinsic  # its types know nothing of the functions it makes
_CONTRACT = ("contract",)  # a product and a sum may become one fused operation


def instruction_set() -> str:
    """Return "avx512", "avx2" or "portable": the widest set numba compiles for, or what RAYMEND_SIMD names.

    Raises:
        ConfigError: RAYMEND_SIMD is none of the three.
        ResourceError: RAYMEND_SIMD names a set that this processor, or numba's settings, do not offer.
    """
    offered = [name for name in NAMES if all(_has(feature) for feature in _NEEDS[name])]
    wanted = os.environ.get("RAYMEND_SIMD") or offered[0]
    if wanted not in NAMES:
        raise ConfigError(f"RAYMEND_SIMD: expected one of {', '.join(NAMES)}, got {wanted!r}")
    if wanted not in offered:
        raise ResourceError(
            f"RAYMEND_SIMD: expected one of {', '.join(offered)}, which is what this processor ({_processor()}) offers "
            f"numba, got {wanted!r}; unset RAYMEND_SIMD to let raymend choose"
        )
    return wanted


def _has(feature: str) -> bool:
    """Tell whether numba compiles for a processor with a feature; NUMBA_CPU_FEATURES counts."""
    features = _settings.CPU_FEATURES
    return f"+{feature}" in (codegen.get_host_cpu_features() if features is None else features).split(",")


def _processor() -> str:
    return str(_settings.CPU_NAME or llvm.get_host_cpu_name())


class Vector(types.Type):
    """Sixteen lanes in a register, as numba sees them."""


floats, ints = Vector("floats"), Vector("ints")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _FLOATS if kind.name == "floats" else _INTS)


@infer_global(operator.add)
@infer_global(operator.sub)
class _FloatsAndInts(ConcreteTemplate):
    cases = (signature(floats, floats, floats), signature(ints, ints, ints))


@infer_global(operator.mul)
@infer_global(operator.truediv)
class _FloatsOnly(ConcreteTemplate):
    cases = (signature(floats, floats, floats),)


@lower_builtin(operator.add, floats, floats)
def _add(context, builder, sig, args):
    return builder.fadd(*args, flags=_CONTRACT)


@lower_builtin(operator.sub, floats, floats)
def _subtract(context, builder, sig, args):
    return builder.fsub(*args, flags=_CONTRACT)


@lower_builtin(operator.mul, floats, floats)
def _multiply(context, builder, sig, args):
    return builder.fmul(*args, flags=_CONTRACT)


@lower_builtin(operator.truediv, floats, floats)
def _divide(context, builder, sig, args):
    return builder.fdiv(*args)


@lower_builtin(operator.add, ints, ints)
def _add_ints(context, builder, sig, args):
    return builder.add(*args)


@lower_builtin(operator.sub, ints, ints)
def _subtract_ints(context, builder, sig, args):
    return builder.sub(*args)


@intrinsic
def load(typing, array, at):
    """Return array[at : at + 16]."""
    return signature(floats, array, types.intp), lambda context, builder, sig, args: _load(context, builder, sig, args)


@intrinsic
def store(typing, array, at, values):
    """Set array[at : at + 16]."""

    def generate(context, builder, sig, args):
        address = _address(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(address, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, floats), generate


@intrinsic
def fill(typing, value):
    """Return sixteen times one float."""
    return signature(floats, types.float32), lambda context, builder, sig, args: _splat(builder, args[0], _FLOATS)


@intrinsic
def fill_ints(typing, value):
    """Return sixteen times one integer."""

    def generate(context, builder, sig, args):
        return _splat(builder, builder.trunc(args[0], _I32), _INTS)

    return signature(ints, types.intp), generate


def _local(kind: types.Type):
    """Make an intrinsic that gives an array on the stack, of a number of entries known when it is compiled."""

    @intrinsic(prefer_literal=True)
    def local(typing, count):
        if not isinstance(count, types.IntegerLiteral):
            return None
        array, length = types.Array(kind, 1, "C"), count.literal_value

        def generate(context, builder, sig, args):
            entry = context.get_data_type(kind)
            start = cgutils.alloca_once(builder, ir.ArrayType(entry, length))
            made, size = context.make_array(array)(context, builder), context.get_abi_sizeof(entry)
            data = builder.bitcast(start, entry.as_pointer())
            populate_array(made, data, shape=(_I64(length),), strides=(_I64(size),), itemsize=size, meminfo=None)
            return made._getvalue()

        return signature(array, count), generate

    return local


local_floats, local_doubles, local_ints = _local(types.float32), _local(types.float64), _local(types.int64)


@intrinsic
def lane_numbers(typing):
    """Return 0.0, 1.0, ... 15.0."""
    return signature(floats), lambda context, builder, sig, args: ir.Constant(_FLOATS, [float(k) for k in range(LANES)])


def _named(name: str, operands: int):
    """Make an intrinsic of one LLVM operation on floats."""

    def generate(context, builder, sig, args):
        return builder.call(_declare(builder, name, _FLOATS, [_FLOATS] * operands), args)

    if operands == 1:

        @intrinsic
        def one(typing, x):
            return signature(floats, floats), generate

        return one

    @intrinsic
    def two(typing, x, y):
        return signature(floats, floats, floats), generate

    return two


minimum, maximum = _named("llvm.minnum.v16f32", 2), _named("llvm.maxnum.v16f32", 2)
absolute = _named("llvm.fabs.v16f32", 1)


@intrinsic
def truncated(typing, x):
    """Round towards zero, to ints."""
    return signature(ints, floats), lambda context, builder, sig, args: builder.fptosi(args[0], _INTS)


@intrinsic
def as_floats(typing, x):
    """Convert ints to floats."""
    return signature(floats, ints), lambda context, builder, sig, args: builder.sitofp(args[0], _FLOATS)


@intrinsic
def first(typing, x):
    """Return the first lane of ints."""
    return signature(types.intp, ints), lambda context, builder, sig, args: _lane(builder, args[0], 0)


@intrinsic
def last(typing, x):
    """Return the last lane of ints."""
    return signature(types.intp, ints), lambda context, builder, sig, args: _lane(builder, args[0], LANES - 1)


@intrinsic(prefer_literal=True)
def lane(typing, x, k):
    """Return lane k of ints, k a number known when it is compiled."""
    return signature(types.intp, ints, k), lambda context, builder, sig, args: _lane(builder, args[0], k.literal_value)


@intrinsic
def pick(typing, array, base, index, shift):
    """Return array[base + index + shift] in each lane.

    The indices rise or fall over the lanes. All index + shift lie in [0, 32), and the indices of either half of the
    lanes within 15 of one another. array[base : base + 32 + shift] must be readable.
    """
    return signature(floats, array, types.intp, ints, types.intp), _picker(32)


@intrinsic
def pick_wide(typing, array, base, index, shift):
    """Do as `pick` for index + shift in [0, 64) and halves within 31; array[base : base + 64 + shift] is readable."""
    return signature(floats, array, types.intp, ints, types.intp), _picker(64)


def _picker(width: int):
    """Return the code generator of `pick` that the processor asks for."""
    form = {"avx512": _pick_avx512, "avx2": _pick_avx2, "portable": _pick_portable}[instruction_set()]
    return lambda context, builder, sig, args: form(context, builder, sig, args, width)


def _pick_avx512(context, builder, sig, args, width):
    """Permute whole registers: two or four loads, one or two permutations of 32 floats."""
    array, base, index, shift = args
    index = builder.add(index, _splat(builder, builder.trunc(shift, _I32), _INTS))
    permute = _declare(builder, "llvm.x86.avx512.vpermi2var.ps.512", _FLOATS, [_FLOATS, _INTS, _FLOATS])
    found = []
    for start in range(0, width, 32):
        low, high = (
            _load(context, builder, sig, (array, builder.add(base, ir.Constant(_I64, start + k)))) for k in (0, 16)
        )
        found.append(builder.call(permute, [low, index, high]))
    if width == 32:
        return found[0]
    return builder.select(builder.icmp_signed("<", index, ir.Constant(_INTS, [32] * LANES)), *found)


def _pick_avx2(context, builder, sig, args, width):
    """Treat each half on its own, from its lowest index: runs of eight floats, permuted and blended."""
    array, base, index, shift = args
    halves = []
    for half in (0, 8):
        lanes = ir.Constant(ir.VectorType(_I32, 8), list(range(half, half + 8)))
        own = builder.shuffle_vector(index, ir.Constant(_INTS, ir.Undefined), lanes)
        ends = [builder.extract_element(own, ir.Constant(_I32, k)) for k in (0, 7)]
        start = builder.select(builder.icmp_signed("<", *ends), *ends)
        own = builder.sub(own, _splat(builder, start, _HALF_INTS))
        at = builder.add(builder.add(base, shift), builder.sext(start, _I64))
        halves.append(_pick_eight(context, builder, sig, array, at, own, width // 2))
    together = ir.Constant(_INTS, list(range(LANES)))
    return builder.shuffle_vector(*halves, together)


def _pick_eight(context, builder, sig, array, at, index, width):
    """Return array[at + index] in eight lanes, all indices in [0, width)."""
    permute = _declare(builder, "llvm.x86.avx2.permps", _HALF_FLOATS, [_HALF_FLOATS, _HALF_INTS])
    found = None
    for start in range(0, width, 8):
        address = _address(context, builder, sig.args[0], array, builder.add(at, ir.Constant(_I64, start)))
        run = builder.load(builder.bitcast(address, _HALF_FLOATS.as_pointer()), align=4, typ=_HALF_FLOATS)
        here = builder.call(permute, [run, index])  # the permutation looks at the lowest three bits only
        if found is None:
            found = here
        else:
            beyond = builder.icmp_signed(">", index, ir.Constant(_HALF_INTS, [start - 1] * 8))
            found = builder.select(beyond, here, found)
    return found


def _pick_portable(context, builder, sig, args, width):
    """Load sixteen times."""
    array, base, index, shift = args
    start = _address(context, builder, sig.args[0], array, builder.add(base, shift))
    found = ir.Constant(_FLOATS, ir.Undefined)
    for k in range(LANES):
        value = builder.load(builder.gep(start, [_lane(builder, index, k)], source_etype=_F32), align=4, typ=_F32)
        found = builder.insert_element(found, value, ir.Constant(_I32, k))
    return found


def _address(context, builder, kind, array, at):
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [at], source_etype=_F32)


def _load(context, builder, sig, args):
    address = _address(context, builder, sig.args[0], args[0], args[1])
    return builder.load(builder.bitcast(address, _FLOATS.as_pointer()), align=4, typ=_FLOATS)


def _splat(builder, value, kind):
    nothing = ir.Constant(kind, ir.Undefined)
    start = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(start, nothing, ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count))


def _lane(builder, x, k):
    return builder.sext(builder.extract_element(x, ir.Constant(_I32, k)), _I64)


def _declare(builder, name, result, operands):
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, operands), name)
