"""Metrics: how good an image is, with units, directions and the protocol behind each number."""

from recon.metrics.evaluation import evaluate
from recon.metrics.features import fsim
from recon.metrics.fidelity import FIDELITY, correlation, matthews, psnr, rmse, ssim
from recon.metrics.metric import WINDOWS, Metric, Protocol
from recon.metrics.score import Conditions, Score
from recon.metrics.statistics import Interval, paired_change

__all__ = [
    "FIDELITY",
    "WINDOWS",
    "Conditions",
    "Interval",
    "Metric",
    "Protocol",
    "Score",
    "correlation",
    "evaluate",
    "fsim",
    "matthews",
    "paired_change",
    "psnr",
    "rmse",
    "ssim",
]
