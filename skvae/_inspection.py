"""What a fitted model says of the data: pure functions of its module."""

from .networks import LinearPath


def fitted_attributes(module, selection, dtype):
    """The estimator's attributes that weights, and the history of the net that was selected, give."""
    history = list(selection.history)
    return {
        "components_": loadings(module, dtype),
        "noise_variance_": noise_variance(module),
        "history_": history,
        "n_iter_": len(history) - 1,
        "best_iter_": selection.best_epoch_,
    }


def loadings(module, dtype):
    """Loadings (d, p) of the decoder's linear path, in X's units, or None where there is no linear path."""
    if not isinstance(module.decoder, LinearPath):
        return None
    weight = module.decoder.matrix().detach()
    return (module.scale[:, None] * weight).T.cpu().numpy().astype(dtype)


def noise_variance(module):
    """Noise variance in X's units squared: (p,), or a float where it is one for all, or None if not constant."""
    variance = module.likelihood.constant_variance()
    if variance is None:
        return None
    variance = (variance.detach() * module.scale**2).cpu().numpy()
    return variance if module.likelihood.linear_noise == "feature" else float(variance.mean())
