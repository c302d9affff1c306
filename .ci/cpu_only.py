"""Fail if the set-up brought CUDA libraries or a torch built for them: gigabytes no test here uses."""

import sys
from importlib.metadata import distributions

import torch

cuda = sorted({str(d.name) for d in distributions() if str(d.name).lower().startswith("nvidia-")})
if cuda or torch.version.cuda is not None or torch.version.hip is not None:
    sys.exit(f"expected a CPU build of torch and no CUDA libraries, got torch {torch.__version__} and {cuda}")
