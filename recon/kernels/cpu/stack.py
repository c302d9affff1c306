"""Joseph's projector for stacks and batches of images, in plane: lanes along the images, which share every weight.

A ray's position, weights and addresses are computed once for up to 32 images, whose pixels lie side by side. Forward
jobs own views, adjoint jobs own tiles of the image and add to their own pixels only, so that no atomics are needed
and the result does not depend on the number of threads. Both walk tile by tile, so that the pixels at hand stay in a
near cache. The tables are those of `plane`, without its demands on order and spacing.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.kernels.cpu.compile import inline, kernel
from recon.kernels.cpu.resample import clear
from recon.kernels.cpu.simd import fill, load, store
from recon.kernels.cpu.tables import Tables

WIDTH = 32  # images at a time, in two registers
_VIEWS = 16  # per forward job and per turn of an adjoint job
_TILE = 32  # pixels per side of what stays in the nearest cache
_OWNED = 64  # pixels per side of an adjoint job's tile

f32 = np.float32


def forward(tables: Tables, images: Tensor) -> Tensor:
    """Integrate images (image, y, x) along every ray: (image, view, column)."""
    out = images.new_empty(len(images), len(tables.maps), tables.columns)
    for part, target in zip(images.split(WIDTH), out.split(WIDTH), strict=True):
        packed = part.new_empty(*tables.image, _lanes(len(part)))  # lanes without an image keep to themselves
        packed[..., : len(part)] = part.permute(1, 2, 0)
        jobs = -(-len(tables.maps) // _VIEWS)
        flat, lanes = packed.numpy().reshape(-1), packed.shape[-1]
        rays = int(np.add.reduceat(tables.rays_per_view, np.arange(0, len(tables.maps), _VIEWS)).max())
        project_stack(jobs, flat, lanes, *_geometry(tables), *tables.image, target.numpy(), scratch=rays * lanes)
    return out


def adjoint(tables: Tables, values: Tensor) -> Tensor:
    """Spread values (image, view, column) back over images (image, y, x) with the weights of `forward`."""
    out = values.new_empty(len(values), *tables.image)
    for part, target in zip(values.split(WIDTH), out.split(WIDTH), strict=True):
        lanes = _lanes(len(part))
        weighted = torch.empty(len(tables.ray) * lanes).numpy()
        flat = part.contiguous().numpy().reshape(len(part), -1)
        pack_values(len(tables.ray) // 16, flat, tables.ray, tables.length, lanes, weighted)
        jobs = -(-tables.image[0] // _OWNED) * -(-tables.image[1] // _OWNED)
        spread_stack(jobs, weighted, lanes, *_geometry(tables), target.numpy(), scratch=_OWNED * _OWNED * lanes)
    return out


def _lanes(images: int) -> int:
    return 16 if images <= 16 else WIDTH


def _geometry(tables: Tables) -> tuple[Any, ...]:
    return (
        tables.first_run, tables.runs, tables.at, tables.slope, tables.length, tables.maps, tables.mapped,
        tables.columns, tables.arc, tables.slack,
    )  # fmt: skip


@inline
def rays_near(run, ordered, maps, columns, arc, slack, y0, y1, x0, x1):
    """Return the rays [begin, end) of a run that may cross a box, given from the image's middle."""
    count, column, step = run[2], run[3], run[4]
    if not ordered:
        return 0, count
    low, high = np.inf, -np.inf
    for y in (y0, y1):
        for x in (x0, x1):
            ray = (maps[0, 0] + maps[0, 1] * y + maps[0, 2] * x) / (maps[1, 0] + maps[1, 1] * y + maps[1, 2] * x)
            if arc > 0:
                ray = math.atan(ray / arc) * arc
            low, high = min(low, ray), max(high, ray)
    start = (columns - 1) / 2.0 - column
    if step > 0:
        low, high = low + start, high + start
    else:
        low, high = -high - start, -low - start
    begin = max(0.0, min(float(count), math.ceil(low - slack)))
    end = max(begin, min(float(count), math.floor(high + slack) + 1))
    return int(begin), int(end)


@inline
def lines_near(at, slope, middle, low, high, begin, end):
    """Return the lines of [begin, end) on which low <= at + slope · (line - middle) < high, perhaps with more."""
    p0, p1 = at + slope * (begin - middle), at + slope * (end - 1 - middle)
    least, most = min(p0, p1), max(p0, p1)
    if most < low or least >= high:
        return begin, begin
    if least >= low and most < high:
        return begin, end
    inverse = 1.0 / slope
    a, b = (low - at) * inverse + middle, (high - at) * inverse + middle
    first, last = max(min(a, b) - 1.0, float(begin)), min(max(a, b) + 2.0, float(end))
    return int(first), max(int(first), int(last))


@inline
def read_ray(image, lanes, sums, s, at, slope, middle, begin, end, line_step, pixel_step, low, high, pixels):
    """Add to the sums at s the samples of one ray whose lower pixel lies in [low, high)."""
    a, b = load(sums, s), load(sums, s + lanes - 16)
    two = lanes == 32
    for k in range(begin, end):
        position = at + slope * (k - middle)
        i = int(position + 2.0) - 2  # rounds down, from -2
        if i < low or i >= high:
            continue
        share = f32(position - i)
        p = k * line_step + i * pixel_step
        if i >= 0:
            weight = fill(f32(1) - share)
            a = load(image, p) * weight + a
            if two:
                b = load(image, p + 16) * weight + b
        if i < pixels - 1:
            weight = fill(share)
            a = load(image, p + pixel_step) * weight + a
            if two:
                b = load(image, p + pixel_step + 16) * weight + b
    store(sums, s, a)
    if two:
        store(sums, s + 16, b)


@inline
def spread_ray(values, lanes, image, s, at, slope, middle, begin, end, line_step, pixel_step, low, high, start):
    """Add one ray to the pixels in [low, high) of a tile; pixel 0 of line 0 would lie at image[start]."""
    a, b = load(values, s), load(values, s + lanes - 16)
    two = lanes == 32
    for k in range(begin, end):
        position = at + slope * (k - middle)
        i = int(position + 2.0) - 2
        share = f32(position - i)
        p = start + k * line_step + i * pixel_step
        if i >= low and i < high:
            weight = fill(f32(1) - share)
            store(image, p, a * weight + load(image, p))
            if two:
                store(image, p + 16, b * weight + load(image, p + 16))
        if i + 1 >= low and i + 1 < high:
            weight = fill(share)
            store(image, p + pixel_step, a * weight + load(image, p + pixel_step))
            if two:
                store(image, p + pixel_step + 16, b * weight + load(image, p + pixel_step + 16))


@kernel
def project_stack(
    job0, job1, sums, image, lanes, first_run, runs, at, slope, length, maps, mapped, columns, arc, slack, ny, nx, out
):  # fmt: skip
    """Fill out (image, view, column) from images that lie side by side, (y, x, lane) flat."""
    images, views = out.shape[0], out.shape[1]
    my, mx = (ny - 1) / 2.0, (nx - 1) / 2.0
    for job in range(job0, job1):
        v0 = job * _VIEWS
        v1 = min(views, v0 + _VIEWS)
        start = runs[first_run[v0], 1]
        stop = runs[first_run[v1] - 1, 1] + runs[first_run[v1] - 1, 2]
        clear(sums[: (stop - start) * lanes])
        for y0 in range(0, ny, _TILE):
            y1 = min(ny, y0 + _TILE)
            for x0 in range(0, nx, _TILE):
                x1 = min(nx, x0 + _TILE)
                for view in range(v0, v1):
                    for r in range(first_run[view], first_run[view + 1]):
                        first, last = rays_near(
                            runs[r], mapped, maps[view], columns, arc, slack,
                            y0 - my - 1.01, y1 - my + 0.01, x0 - mx - 1.01, x1 - mx + 0.01,
                        )  # fmt: skip
                        if runs[r, 0] == 1:
                            middle, low, high, k0, k1, pixels = my, x0, x1, y0, y1, nx
                            line_step, pixel_step = nx * lanes, lanes
                        else:
                            middle, low, high, k0, k1, pixels = mx, y0, y1, x0, x1, ny
                            line_step, pixel_step = lanes, nx * lanes
                        if low == 0:
                            low = -1  # steps just before the image touch its first pixel
                        for e in range(runs[r, 1] + first, runs[r, 1] + last):
                            begin, end = lines_near(at[e], slope[e], middle, low, high, k0, k1)
                            if begin < end:
                                read_ray(
                                    image, lanes, sums, (e - start) * lanes, at[e], slope[e], middle, begin, end,
                                    line_step, pixel_step, low, high, pixels,
                                )  # fmt: skip
        for view in range(v0, v1):
            for r in range(first_run[view], first_run[view + 1]):
                for item in range(images):
                    for i in range(runs[r, 2]):
                        e = runs[r, 1] + i
                        out[item, view, runs[r, 3] + runs[r, 4] * i] = sums[(e - start) * lanes + item] * length[e]


@kernel
def pack_values(job0, job1, values, ray, length, lanes, out):
    """Set out, (ray, lane) flat, to values (image, ray) in the order of the tables, times their length."""
    for job in range(job0, job1):
        e = job * 16
        for item in range(values.shape[0]):
            for i in range(16):
                real = length[e + i] > 0
                out[(e + i) * lanes + item] = values[item, ray[e + i]] * length[e + i] if real else f32(0)


@kernel
def spread_stack(
    job0, job1, tile, weighted, lanes, first_run, runs, at, slope, length, maps, mapped, columns, arc, slack, out
):  # fmt: skip
    """Fill images (image, y, x) from weighted values (ray, lane), flat."""
    images, ny, nx = out.shape
    my, mx = (ny - 1) / 2.0, (nx - 1) / 2.0
    across = (nx + _OWNED - 1) // _OWNED
    for job in range(job0, job1):
        top, left = job // across * _OWNED, job % across * _OWNED
        bottom, right = min(ny, top + _OWNED), min(nx, left + _OWNED)
        clear(tile)
        origin = -(top * _OWNED + left) * lanes
        for v0 in range(0, maps.shape[0], _VIEWS):
            for x0 in range(left, right, _TILE):
                x1 = min(right, x0 + _TILE)
                for view in range(v0, min(maps.shape[0], v0 + _VIEWS)):
                    for r in range(first_run[view], first_run[view + 1]):
                        first, last = rays_near(
                            runs[r], mapped, maps[view], columns, arc, slack,
                            top - my - 1.01, bottom - my + 0.01, x0 - mx - 1.01, x1 - mx + 0.01,
                        )  # fmt: skip
                        if runs[r, 0] == 1:
                            middle, low, high, k0, k1 = my, x0, x1, top, bottom
                            line_step, pixel_step = _OWNED * lanes, lanes
                        else:
                            middle, low, high, k0, k1 = mx, top, bottom, x0, x1
                            line_step, pixel_step = lanes, _OWNED * lanes
                        for e in range(runs[r, 1] + first, runs[r, 1] + last):
                            begin, end = lines_near(at[e], slope[e], middle, low - 1, high, k0, k1)
                            if begin < end:
                                spread_ray(
                                    weighted, lanes, tile, e * lanes, at[e], slope[e], middle, begin, end,
                                    line_step, pixel_step, low, high, origin,
                                )  # fmt: skip
        for item in range(images):
            for y in range(top, bottom):
                for x in range(left, right):
                    out[item, y, x] = tile[((y - top) * _OWNED + x - left) * lanes + item]
