"""Probabilistic PCA: the optimum for noise whose shape is known, in closed form."""

from .._data.weights import bessel_factor


def probabilistic_pca(scatter, n, d, noise_shape, noise, floor):
    r"""Maximum likelihood in closed form (Tipping and Bishop, Probabilistic principal component analysis, 1999).

    With Psi = sigma^2 noise_shape, W = V (Lambda - sigma^2)^(1/2); sigma^2 is the mean of the discarded eigenvalues.

    Covariances divide by n - 1, as PCA's do, for n rows. The mean is over all p - d discarded directions, as
    Tipping and Bishop have it (eq. 8); `PCA.noise_variance_` leaves out those that are exactly 0
    because there are fewer rows than columns.
    """
    p = len(noise_shape)
    scatter = scatter.weighted(noise_shape.rsqrt())
    correction = bessel_factor(n)
    values, vectors = scatter.top(d)
    values = correction * values
    if noise is None:
        discarded = correction * scatter.diagonal().sum() - values.sum()
        noise = max((discarded / max(p - d, 1)).item(), floor)
    loadings = vectors * (values - noise).clamp(min=0).sqrt()
    return noise_shape.sqrt()[:, None] * loadings, noise * noise_shape
