"""Linear operators: the algebra, the projector and operators on images."""

from recon.operators.image import Gradient, gradient_norm
from recon.operators.linear import Diagonal, Identity, LinearOperator
from recon.operators.projector import Projector, subsets

__all__ = ["Diagonal", "Gradient", "Identity", "LinearOperator", "Projector", "gradient_norm", "subsets"]
