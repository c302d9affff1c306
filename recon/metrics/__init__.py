"""Metrics: how good an image is, with units, directions and the protocol behind each number."""

from recon.metrics.fidelity import FIDELITY, correlation, matthews, psnr, rmse, ssim
from recon.metrics.metric import Metric, Protocol

__all__ = ["FIDELITY", "Metric", "Protocol", "correlation", "matthews", "psnr", "rmse", "ssim"]
