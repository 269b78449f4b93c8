"""The contract that every posterior meets, over the whole table. The truth is torch's dense Gaussian."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.distributions import MultivariateNormal, kl_divergence

from skvae._model.laplace import LaplacePosterior
from skvae._model.value_precisions import TemperedPosterior, WidenedPosterior
from skvae.posteriors import POSTERIORS, Posterior, RhoPosterior

DIMENSIONS = (1, 2, 5, 20)
every_posterior = pytest.mark.parametrize("family", POSTERIORS.values(), ids=POSTERIORS)
every_dimension = pytest.mark.parametrize("d", DIMENSIONS)


def random_posterior(family, d, batch=(3,), spread=0.7, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    raw = spread * torch.randn(*batch, family.n_raw(d), generator=generator, dtype=dtype)
    return family(raw, d)


def dense(q):
    return MultivariateNormal(q.mean, q.covariance(), validate_args=True)


def standard_normal(d):
    return MultivariateNormal(torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64))


@every_posterior
@every_dimension
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_agrees_with_the_dense_gaussian(family, d, batch):
    q = random_posterior(family, d, batch)
    z = torch.randn(*batch, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    truth = dense(q)
    assert q.mean.shape == (*batch, d)
    torch.testing.assert_close(q.log_prob(z), truth.log_prob(z), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.entropy(), truth.entropy(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.kl(), kl_divergence(truth, standard_normal(d)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.variance(), q.covariance().diagonal(dim1=-2, dim2=-1))
    eps = torch.randn(6, *batch, d, dtype=torch.float64)
    torch.testing.assert_close(q.log_prob_of_noise(eps), q.log_prob(q.rsample(eps)), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(q.whiten(q.scale(eps)), eps)


@every_dimension
def test_ar1_covariance_entry_by_entry(d):
    for name in ("rho", "rho_diag"):
        q = random_posterior(POSTERIORS[name], d)
        covariance, s = q.covariance(), q.log_s.exp().expand(3, d)
        for n in range(3):
            for i in range(d):
                for j in range(d):
                    expected = math.sqrt(s[n, i] * s[n, j]) * torch.tanh(q.t)[n, 0] ** abs(i - j)
                    assert covariance[n, i, j] == pytest.approx(float(expected), rel=1e-10, abs=1e-14)


@every_posterior
@every_dimension
def test_samples_have_the_moments(family, d):
    """40,000 draws: each mean within 5 standard errors, and each covariance entry; fails 1 seed in 3,000."""
    n = 40_000
    q = random_posterior(family, d, batch=(1,))
    eps = torch.randn(n, 1, d, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    z = q.rsample(eps)[:, 0]
    covariance = q.covariance()[0]
    variance = covariance.diagonal()
    assert ((z.mean(0) - q.mean[0]).abs() < 5 * (variance / n).sqrt()).all()
    error = (torch.outer(variance, variance) + covariance**2).div(n).sqrt()
    assert ((torch.cov(z.T) - covariance).abs().reshape(d, d) < 5 * error).all()


@every_posterior
@every_dimension
def test_kl_agrees_with_monte_carlo(family, d):
    """KL = E_q[log q - log p] over 100,000 draws, within 5 standard errors (fails 1 seed in 10^6)."""
    q = random_posterior(family, d, batch=(1,))
    eps = torch.randn(100_000, 1, d, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    z = q.rsample(eps)
    difference = q.log_prob(z) - standard_normal(d).log_prob(z)
    standard_error = difference.std(0) / 100_000**0.5
    assert ((difference.mean(0) - q.kl()).abs() < 5 * standard_error + 1e-9).all()


@every_posterior
@every_dimension
def test_every_raw_number_gets_a_gradient_through_sampling(family, d):
    raw = torch.randn(2, family.n_raw(d), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    raw.requires_grad_()
    eps = torch.randn(50, 2, d, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    weight = torch.linspace(0.5, 1.5, d, dtype=torch.float64)
    family(raw, d).rsample(eps).square().mul(weight).sum().backward()
    moved = raw.grad.abs() > 0
    if d == 1 and "rho" in family.__name__.lower():
        assert moved[:, :-1].all() and not moved[:, -1].any()  # one component has no correlation
    else:
        assert moved.all()


@every_posterior
@every_dimension
@pytest.mark.parametrize("extreme", [-40.0, 40.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_raw_numbers_stay_finite(family, d, extreme, dtype):
    raw = torch.full((3, family.n_raw(d)), extreme, dtype=dtype, requires_grad=True)
    q = family(raw, d)
    eps = torch.randn(4, 3, d, generator=torch.Generator().manual_seed(6), dtype=dtype)
    for value in (q.rsample(eps), q.kl(), q.kl_of_components(), q.entropy(), q.log_prob_of_noise(eps)):
        assert torch.isfinite(value).all()
        (gradient,) = torch.autograd.grad(value.sum(), raw, retain_graph=True, allow_unused=True)
        assert gradient is None or torch.isfinite(gradient).all()


@every_posterior
@pytest.mark.parametrize("d", [1, 2, 5])
def test_gradcheck(family, d):
    raw = torch.randn(2, family.n_raw(d), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    raw.requires_grad_()
    eps = torch.randn(2, 2, d, generator=torch.Generator().manual_seed(8), dtype=torch.float64)

    def outputs(raw):
        q = family(raw, d)
        return q.rsample(eps), q.kl(), q.entropy(), q.log_prob(eps), q.covariance()

    assert torch.autograd.gradcheck(outputs, (raw,))


@every_posterior
@every_dimension
def test_start_is_the_nearest_of_the_family(family, d):
    """No small change of the raw numbers lowers KL(q || N(0, (V diag(precision) V^T)^-1))."""
    precision = torch.linspace(30.0, 1.5, d, dtype=torch.float64)
    rotation, best, raw = family.init_from_precision(precision)
    assert family is RhoPosterior or torch.equal(best, precision)
    precision = best
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(d, dtype=torch.float64))
    target = MultivariateNormal(torch.zeros(d, dtype=torch.float64), precision_matrix=rotation * precision @ rotation.T)

    def divergence(raw):
        return kl_divergence(dense(family(torch.cat([raw.new_zeros(d), raw]), d)), target)

    start = divergence(raw)
    if family is not RhoPosterior:
        assert start < 1e-8
    generator = torch.Generator().manual_seed(9)
    for _ in range(20):
        step = 1e-2 * torch.randn(len(raw), generator=generator, dtype=torch.float64)
        assert divergence(raw + step) > start - 1e-9


def rho_gap(precision):
    """What the best rho posterior and loadings leave of the bound, in nats: a search over log p', log s and t in numpy.

    1/2 sum_j [p_j / p'_j + s e_j p'_j - log(s e_j) - 2 - log p_j], e the eigenvalues of T(rho) against descending p.
    """
    p = np.asarray(precision)
    d, lag = len(p), np.abs(np.subtract.outer(np.arange(len(p)), np.arange(len(p))))

    def gap(x):
        best, s = np.exp(x[:d]), np.exp(x[d])
        e = np.maximum(np.linalg.eigvalsh(np.tanh(x[d + 1]) ** lag), 1e-15)
        return 0.5 * np.sum(p / best + s * e * best - np.log(s * e) - 2 - np.log(p))

    bounds = [(0, None if number > 1 else 0) for number in p] + [(None, None), (0, 10)]
    starts = (np.r_[np.log(p), -np.log(p).mean(), t] for t in (0.1, 1.0, 3.0))
    return min(minimize(gap, start, bounds=bounds, options={"maxiter": 2000, "maxfun": 10**5}).fun for start in starts)


PRECISIONS = {
    "spread": lambda d: torch.linspace(200.0, 2.0, d, dtype=torch.float64),
    "one large": lambda d: torch.tensor([1000.0] + [1.2] * (d - 1), dtype=torch.float64),
    "no loading": lambda d: torch.tensor([30.0] + [1.0] * (d - 1), dtype=torch.float64),
}


@every_dimension
@pytest.mark.parametrize("spectrum", PRECISIONS)
def test_rho_start_is_the_joint_optimum_of_loadings_and_posterior(d, spectrum):
    """What it leaves: the likelihood that other loadings lose, and the divergence, of dense matrices."""
    precision = PRECISIONS[spectrum](d)
    rotation, best, raw = RhoPosterior.init_from_precision(precision)
    assert (best >= 1).all() and (best[precision == 1] == 1).all()
    q = RhoPosterior(torch.cat([precision.new_zeros(d), raw]), d)
    target = MultivariateNormal(torch.zeros(d, dtype=torch.float64), precision_matrix=rotation * best @ rotation.T)
    ratio = precision / best
    left = kl_divergence(dense(q), target) + 0.5 * (ratio - 1 - ratio.log()).sum()
    assert left.item() == pytest.approx(rho_gap(precision), abs=2e-3, rel=1e-3)


@every_dimension
def test_rho_start_has_its_closed_form(d):
    """min over rho of 1/2 [2 d log(mean_j sqrt(p_j e_j)) - sum log e_j - sum log p_j], where no p' is held at 1."""
    precision = PRECISIONS["spread"](d)
    lag = (torch.arange(d)[:, None] - torch.arange(d)).abs()
    gaps = []
    for rho in torch.linspace(0, 0.9999, 4001, dtype=torch.float64):
        e = torch.linalg.eigvalsh(rho**lag)  # ascending, against precision descending
        gaps.append(0.5 * (2 * d * (precision * e).sqrt().mean().log() - e.log().sum() - precision.log().sum()))
    assert rho_gap(precision) == pytest.approx(min(gaps).item(), abs=2e-3)


def test_at_two_components_rho_is_diag_turned_by_45_degrees():
    """The bound of any rho posterior is that of a diag posterior in turned coordinates, and the prior is isotropic."""
    turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64) / 2**0.5
    q = random_posterior(RhoPosterior, 2, batch=(50,), spread=1.5)
    s, rho = q.log_s[:, 0].exp(), torch.tanh(q.t[:, 0])
    log_variances = torch.stack([s * (1 + rho), s * (1 - rho)], dim=-1).log()
    turned = POSTERIORS["diag"](torch.cat([q.mean @ turn.T, log_variances], dim=-1), 2)
    torch.testing.assert_close(turn @ q.covariance() @ turn.T, turned.covariance())
    torch.testing.assert_close(q.kl(), turned.kl())


def test_default_start_search_finds_the_diagonal_optimum():
    family = POSTERIORS["diag"]
    precision = torch.tensor([50.0, 7.0, 1.0], dtype=torch.float64)
    _, _, raw = Posterior.init_from_precision.__func__(family, precision)
    torch.testing.assert_close(raw, -precision.log(), rtol=1e-4, atol=1e-4)


def test_table_is_complete():
    families = {subclass for base in (Posterior, *Posterior.__subclasses__()) for subclass in base.__subclasses__()}
    ours = {family for family in families if family.__module__.startswith("skvae.")}
    no_options = {TemperedPosterior, WidenedPosterior, LaplacePosterior}  # an encoder's numbers do not make these
    assert ours == {*POSTERIORS.values()} | no_options
