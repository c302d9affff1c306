"""Noise2Inverse: learn to denoise one scan from that scan alone, because the noise of its views is independent."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recon import Scan, VolumeGrid, checks, to_hu, to_mu
from recon.analytic.fbp import prepare
from recon.errors import ConfigError, NumericalError
from recon.io.atomic import check_writable
from recon.iterative import Stop
from recon.random import generator
from restoration.denoisers.noise2inverse_store import Progressed, fingerprint, load, save
from restoration.denoisers.noise_level import noise_level

STEPS = 600
_VIEWS = 16  # in each part at least
_WINDOW = "cosine"  # of noisy thoraxes better than none, whose noise is strong, and than Hann's, whose blur stays
_WIDTHS = (16, 32, 64)
_PATCH, _BATCH = 96, 8
_RATE, _WARM = 2e-3, 50  # Adam's rate at most, and steps until it is reached
_SCALE = 500.0  # HU that the network sees as 1
_BODY = -500.0  # HU; patches lie around pixels above
_EVERY = 100  # steps from one checkpoint to the next

Tell = Callable[[int, int, float], None]


class _Network(nn.Module):
    """Predict the noise of an image, in units of its standard deviation, at three scales; 109 thousand weights."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (1, *_WIDTHS[:-1])
        self.down = nn.ModuleList(_pair(a, b) for a, b in zip(inputs, _WIDTHS, strict=True))
        self.rise = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(_WIDTHS[-2::-1], _WIDTHS[:0:-1], strict=True))
        self.up = nn.ModuleList(_pair(2 * a, a) for a in _WIDTHS[-2::-1])
        self.last = nn.Conv2d(_WIDTHS[0], 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the noise of images (batch, 1, y, x) whose sides are multiples of 4."""
        kept: list[Tensor] = []
        for depth, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if depth else x)
            kept.append(x)
        for rise, block, skip in zip(self.rise, self.up, kept[-2::-1], strict=True):
            higher = F.interpolate(rise(x), scale_factor=2.0, mode="nearest")
            x = block(torch.cat([higher, skip], 1))
        found: Tensor = self.last(x)
        return found


@dataclass(frozen=True, eq=False)
class _Parts:
    """Images of the parts of a scan in HU (part, z, y, x), and where patches may lie."""

    images: Tensor
    noise: float
    inside: Tensor

    @classmethod
    def of(cls, scan: Scan, grid: VolumeGrid, splits: int) -> "_Parts":
        """Reconstruct interleaved views by FBP or FDK."""
        shares = [scan[first::splits] for first in range(splits)]
        images = torch.stack(
            [to_hu(prepare(part, grid, window=_WINDOW).image(part), scan.calibration.water) for part in shares]
        )
        images = images.detach().float()
        mean = images.mean(0)
        inside = torch.nonzero(mean > _BODY)
        return cls(images, max(noise_level(mean), 1e-3), inside if len(inside) else torch.nonzero(mean.isfinite()))

    def others(self, part: int) -> Tensor:
        """Return the mean of all parts but one (z, y, x)."""
        return (self.images.sum(0) - self.images[part]) / (len(self.images) - 1)

    def batch(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw patches (batch, 1, y, x) of means of all parts but one, and of that one, turned and mirrored."""
        pairs = [self._pair(rng) for _ in range(_BATCH)]
        return torch.stack([a for a, _ in pairs])[:, None], torch.stack([b for _, b in pairs])[:, None]

    def _pair(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        part, place, turn = (
            int(torch.randint(most, (), generator=rng)) for most in (len(self.images), len(self.inside), 8)
        )
        z, *centre = (int(index) for index in self.inside[place])
        side = min(_PATCH, *(n - n % 4 for n in self.images.shape[-2:]))
        cut = tuple(
            slice(low, low + side)
            for low in (
                min(max(c - side // 2, 0), n - side) for c, n in zip(centre, self.images.shape[-2:], strict=True)
            )
        )
        target = self.images[part, z][cut]
        given = (self.images[:, z][:, *cut].sum(0) - target) / (len(self.images) - 1)
        return _turned(given, turn), _turned(target, turn)


def noise2inverse(
    scan: Scan,
    grid: VolumeGrid,
    *,
    splits: int = 4,
    steps: int = STEPS,
    seed: int = 0,
    progress: Tell | None = None,
    checkpoint: "str | os.PathLike[str] | None" = None,
) -> Tensor:
    """Reconstruct a noisy scan by a network that is trained on that scan alone.

    Interleaved parts of the views give images of the same object with independent noise. A small network learns to
    predict the image of one part from the mean of the others ("X:1"); as it cannot foresee noise, it learns the
    object. The result is its mean over all parts. There is no truth in it, and no other patient.

    RMSE inside the body of two thoraxes of 256 × 256, somatom16, 5e4 photons: 19.3 and 21.4 HU in 50 seconds of one
    core, where FBP with the same window has 22.2 and 29.4, with a Hann window 23.5 and 26.6, and "nlm" of the same
    FBP 17.1 and 20.2.

    Args:
        scan: the data, of FBP or FDK geometry, with 16 views or more in each part.
        grid: where to reconstruct, 16 × 16 voxels or more.
        splits: parts, 2 or more.
        steps: of training, each on 8 patches of 96 × 96.
        seed: what the first weights and the patches are drawn from.
        progress: called after every step with its number, the number of all, and the loss; it may raise `Stop`.
        checkpoint: a file to go on from and to save to, every 100 steps and when stopped or interrupted; it stays.

    Returns:
        Attenuation in 1/mm (z, y, x).

    Raises:
        ConfigError: too few views or voxels, or settings out of range.
        CheckpointError: a checkpoint that is damaged or of other data or settings.
        NumericalError: the training diverged.
        Stop: raised by `progress`, after the checkpoint was saved.

    Source:
        Hendriksen, Pelt and Batenburg 2020, IEEE Transactions on Computational Imaging 6: 1320-1335, eq. 11.
    """
    checks.counts("steps", (steps,), 1)
    _check(scan, grid, splits)
    target = None if checkpoint is None else check_writable(checkpoint)
    parts = _Parts.of(scan, grid, splits)
    problem = fingerprint(parts.images, {"steps": steps, "seed": seed})
    network = _fresh(seed).to(parts.images.device)
    _train(network, parts, steps, seed, progress, target, problem)
    with torch.no_grad():
        image = sum((_denoised(network, parts.others(part), parts.noise) for part in range(splits)), torch.tensor(0.0))
    return to_mu(image / splits, scan.calibration.water).to(scan.values)


def _check(scan: Scan, grid: VolumeGrid, splits: int) -> None:
    if not checks.whole(splits) or splits < 2:
        raise ConfigError(f"splits: expected a whole number of 2 or more, got {splits!r}; 4 is usual")
    if len(scan) < splits * _VIEWS:
        raise ConfigError(
            f"scan: expected {splits * _VIEWS} views or more, {_VIEWS} for each of {splits} parts, got {len(scan)}; "
            "take pwls or plug_and_play for sparse views"
        )
    if min(grid.shape[-2:]) < 16:
        raise ConfigError(f"grid: expected 16 × 16 voxels or more in a slice, got {grid.shape[-2:]}")


def _fresh(seed: int) -> _Network:
    """Return a network with weights drawn from a seed, which predicts no noise at first."""
    network, rng = _Network(), generator(seed)
    for weight in network.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight.data, nonlinearity="relu", generator=rng)
        else:
            nn.init.zeros_(weight)
    nn.init.zeros_(network.last.weight)
    return network


def _train(
    network: _Network, parts: _Parts, steps: int, seed: int, progress: Tell | None, target: Path | None, problem: str
) -> None:
    """Train a network, from a checkpoint if there is one."""
    adam = torch.optim.Adam(network.parameters(), lr=_RATE, betas=(0.9, 0.99))
    state = Progressed(network, adam)
    done = load(target, state, problem) if target is not None and target.exists() else 0
    with _saved(target, state, problem):
        for step in range(done, steps):
            for group in adam.param_groups:
                group["lr"] = _rate(step, steps)
            # A generator for each step, so that going on needs no state of it.
            loss = _loss(network, parts, generator(seed * 1_000_003 + step + 1))
            if not math.isfinite(float(loss.detach())):
                raise NumericalError(
                    f"noise2inverse: the loss stopped being finite at step {step + 1}; try other seeds"
                )
            adam.zero_grad()
            loss.backward()
            adam.step()
            state.step = step + 1
            if target is not None and state.step % _EVERY == 0:
                save(target, state, problem)
            if progress is not None:
                progress(state.step, steps, float(loss.detach()))


@contextmanager
def _saved(target: Path | None, state: Progressed, problem: str) -> Iterator[None]:
    """Save where a training ends, also if it is stopped."""
    try:
        yield
    except (KeyboardInterrupt, Stop):
        if target is not None:
            save(target, state, problem)
        raise
    if target is not None:
        save(target, state, problem)


def _rate(step: int, steps: int) -> float:
    return _RATE * min(1.0, (step + 1) / _WARM) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _loss(network: _Network, parts: _Parts, rng: torch.Generator) -> Tensor:
    given, target = parts.batch(rng)
    return ((_without_noise(network, given, parts.noise) - target) / parts.noise).square().mean()


def _without_noise(network: _Network, image: Tensor, noise: float) -> Tensor:
    """Return images (batch, 1, y, x) in HU without the noise that a network sees."""
    scaled = (image / _SCALE).contiguous(memory_format=torch.channels_last)
    half = image.is_cuda or torch.backends.cpu.get_cpu_capability() == "AVX512"  # elsewhere bfloat16 is slower
    with torch.autocast(image.device.type, torch.bfloat16, enabled=half):
        found: Tensor = network(scaled)
    return image - noise * found.float()


def _denoised(network: _Network, image: Tensor, noise: float) -> Tensor:
    """Return an image (z, y, x) without noise, slice by slice."""
    y, x = image.shape[-2:]
    padded = F.pad(image[:, None], (0, -x % 4, 0, -y % 4), mode="reflect")
    slices = [_without_noise(network, one[None], noise)[0] for one in padded]
    return torch.cat(slices)[:, :y, :x]


def _turned(patch: Tensor, turn: int) -> Tensor:
    """Return one of the eight ways to put a square patch."""
    patch = patch.transpose(-1, -2) if turn & 4 else patch
    axes = [axis for axis, bit in ((-1, 1), (-2, 2)) if turn & bit]
    return patch.flip(axes) if axes else patch


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(inplace=True),
    )  # fmt: skip
