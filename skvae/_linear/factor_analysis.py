"""Factor analysis: the optimum for a noise variance per feature, by expectation maximisation."""

import torch


def factor_analysis(scatter, d, scale, floor):
    """Maximum likelihood by EM, from the better of two starts, as the likelihood has several maxima.

    The starts are the principal components of the standardised columns and of the columns in X's units. An iteration
    costs a product of the scatter with a (p, d) matrix, so many iterations are affordable.

    References
    ----------
    Rubin and Thayer, EM algorithms for ML factor analysis, 1982.
    """
    in_x = (scale / scale.max()).clamp(min=1e-8)  # with less spread, an eigenvector's entries would be rounding errors
    fits = [_expectation_maximisation(scatter, w, d, floor) for w in (torch.ones_like(scale), in_x)]
    return max(fits, key=lambda fit: fit[0])[1:]


def _expectation_maximisation(scatter, weight, d, floor, tol=1e-4, max_iter=1000):
    """Iterate from the weighted columns' principal components until a step gains less than tol nats per row."""
    variance, weighted = scatter.diagonal(), scatter.weighted(weight)
    values, vectors = weighted.top(d)
    discarded = (weighted.diagonal().sum() - values.sum()).clamp(min=0) / max(len(variance) - d, 1)
    loadings = vectors * (values - discarded).clamp(min=0).sqrt() / weight[:, None]
    noise = (variance - loadings.square().sum(1)).clamp(min=max(floor, 1e-4))
    eye = torch.eye(d, dtype=torch.float64, device=variance.device)
    bound = -torch.inf
    for _ in range(max_iter):
        weighted = loadings / noise[:, None]  # (p, d), Psi^-1 W
        precision = eye + loadings.T @ weighted
        projection = torch.linalg.solve(precision, weighted.T)  # (d, p), E[z | u] = projection @ u
        cross = scatter @ projection.T  # (p, d)
        log_det = noise.log().sum() + torch.logdet(precision)
        previous, bound = bound, -0.5 * (log_det + (variance / noise).sum() - (weighted * cross).sum()).item()
        if bound - previous < tol:
            break
        second_moment = eye - projection @ loadings + projection @ cross
        loadings = torch.linalg.solve(second_moment, cross.T).T
        noise = (variance - (loadings * cross).sum(1)).clamp(min=floor)
    return bound, loadings, noise
