"""Metrics: how good an image is, with units, directions and the protocol behind each number."""

from recon.metrics.channels import gabor, laguerre_gauss
from recon.metrics.consistency import CONSISTENCY, reformat_ssim, slice_change
from recon.metrics.detectability import Detectability, hotelling
from recon.metrics.evaluation import evaluate
from recon.metrics.features import fsim
from recon.metrics.fidelity import FIDELITY, correlation, matthews, psnr, rmse, ssim
from recon.metrics.metric import WINDOWS, Metric, Protocol
from recon.metrics.noise import NoisePower, RadialNoise, noise_power, noise_regions
from recon.metrics.regions import cnr, streak_level, uniformity
from recon.metrics.resolution import EdgeTransfer, edge_transfer
from recon.metrics.score import Conditions, Score
from recon.metrics.statistics import Interval, paired_change

__all__ = [
    "CONSISTENCY",
    "FIDELITY",
    "WINDOWS",
    "Conditions",
    "Detectability",
    "EdgeTransfer",
    "Interval",
    "Metric",
    "NoisePower",
    "Protocol",
    "RadialNoise",
    "Score",
    "cnr",
    "correlation",
    "edge_transfer",
    "evaluate",
    "fsim",
    "gabor",
    "hotelling",
    "laguerre_gauss",
    "matthews",
    "noise_power",
    "noise_regions",
    "paired_change",
    "psnr",
    "reformat_ssim",
    "rmse",
    "slice_change",
    "ssim",
    "streak_level",
    "uniformity",
]
