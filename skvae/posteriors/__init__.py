"""Posterior families. To add one, write a class in a file of its own and add a line to ``POSTERIORS``."""

from ._base import Posterior
from ._diag import DiagPosterior
from ._full import FullPosterior
from ._rho import RhoDiagPosterior, RhoPosterior

POSTERIORS: dict[str, type[Posterior]] = {
    "diag": DiagPosterior,
    "rho": RhoPosterior,
    "rho_diag": RhoDiagPosterior,
    "full": FullPosterior,
}

__all__ = ["POSTERIORS", "DiagPosterior", "FullPosterior", "Posterior", "RhoDiagPosterior", "RhoPosterior"]
