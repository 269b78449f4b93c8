"""Pictures of a fitted model, as scikit-learn's Display classes: ``LatentDisplay.from_estimator(vae, X)``."""

from ._comparison import ComparisonDisplay
from ._contributions import ContributionsDisplay
from ._influence import InfluenceDisplay
from ._latent import LatentDisplay
from ._loadings import LoadingsDisplay
from ._loss_curve import LossCurveDisplay
from ._posterior_correlation import PosteriorCorrelationDisplay
from ._reconstruction import ReconstructionDisplay
from ._scree import ScreeDisplay
from ._traversal import TraversalDisplay

__all__ = [
    "ComparisonDisplay",
    "ContributionsDisplay",
    "InfluenceDisplay",
    "LatentDisplay",
    "LoadingsDisplay",
    "LossCurveDisplay",
    "PosteriorCorrelationDisplay",
    "ReconstructionDisplay",
    "ScreeDisplay",
    "TraversalDisplay",
]
