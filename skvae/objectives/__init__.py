"""What training maximises. To add one, write a class in a file of its own and add a line to ``OBJECTIVES``."""

from ._base import ModelOutput, Objective
from ._elbo import ELBO
from ._info import KERNELS, InfoVAE
from ._iwae import IWAE, importance_bound

OBJECTIVES: dict[str, type[Objective]] = {"elbo": ELBO, "iwae": IWAE, "info": InfoVAE}

__all__ = ["ELBO", "IWAE", "KERNELS", "OBJECTIVES", "InfoVAE", "ModelOutput", "Objective", "importance_bound"]
