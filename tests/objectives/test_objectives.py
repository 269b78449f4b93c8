"""Objectives: identities, closed forms, dense references; the contract over the whole table."""

import math
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from skvae import VAETransformer
from skvae._data.rows import Rows
from skvae._training import net as net_module
from skvae._training.fit import to_device
from skvae.objectives import ELBO, IWAE, KERNELS, OBJECTIVES, InfoVAE, ModelOutput, Objective, importance_bound
from skvae.posteriors import POSTERIORS

from ..conftest import curved_spectra, small

N, D = 6, 3
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def made_draw(n_draws=None, family="full", n=N, d=D, seed=0):
    """A batch's terms with random numbers; without `n_draws` the one draw has no axis of its own."""
    generator = torch.Generator().manual_seed(seed)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    q = POSTERIORS[family](normal(n, POSTERIORS[family].n_raw(d)), d)
    shape = (n,) if n_draws is None else (n_draws, n)
    eps = normal(*shape, d)
    return ModelOutput(normal(*shape) - 5, q, q.kl(), q.rsample(eps), eps)


@every_objective
@pytest.mark.parametrize("family", POSTERIORS)
def test_there_is_one_number_per_row_with_and_without_an_axis_of_draws(name, family):
    draw = made_draw(family=family)
    objective = OBJECTIVES[name](beta=0.7)
    one = objective(draw)
    assert one.shape == (N,) and torch.isfinite(one).all()
    stacked = draw._replace(log_likelihood=draw.log_likelihood[None], z=draw.z[None], eps=draw.eps[None])
    torch.testing.assert_close(objective(stacked), one)
    several = objective(made_draw(4, family=family))
    assert several.shape == (N,) and torch.isfinite(several).all()


@every_objective
def test_the_share_is_of_beta_and_may_be_a_tensor(name):
    draw = made_draw(5)
    half = OBJECTIVES[name](beta=0.5)(draw)
    torch.testing.assert_close(OBJECTIVES[name](beta=1.0)(draw, 0.5), half)
    torch.testing.assert_close(OBJECTIVES[name](beta=1.0)(draw, torch.tensor(0.5)), half)
    assert not torch.allclose(half, OBJECTIVES[name](beta=1.0)(draw))


def test_elbo_is_expected_log_likelihood_less_weighted_kl():
    draw = made_draw(4)
    torch.testing.assert_close(ELBO(beta=2.5)(draw), draw.log_likelihood.mean(0) - 2.5 * draw.kl)


@pytest.mark.parametrize("family", POSTERIORS)
def test_kl_is_that_of_components_and_their_total_correlation(family):
    """Of torch's dense Gaussians: KL(q || p) = sum_j KL(q_j || p_j) + KL(q || prod_j q_j)."""
    q = made_draw(family=family).q
    covariance = q.covariance()
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    own = kl_divergence(Normal(q.mean, variance.sqrt()), Normal(torch.zeros_like(q.mean), 1.0))
    torch.testing.assert_close(q.kl_of_components(), own)
    independent = MultivariateNormal(q.mean, torch.diag_embed(variance))
    total_correlation = kl_divergence(MultivariateNormal(q.mean, covariance), independent)
    torch.testing.assert_close(q.kl(), own.sum(-1) + total_correlation)


def test_free_bits_are_paid_for_by_components_under_them_which_get_no_gradient():
    d = 2
    raw = torch.tensor([[0.1, 2.0, 0.0, -1.0], [0.0, 2.5, 0.1, -1.2]], dtype=torch.float64, requires_grad=True)
    q = POSTERIORS["diag"](raw, d)
    own = q.kl_of_components()
    assert own[:, 0].mean() < 0.5 < own[:, 1].mean()
    draw = ModelOutput(torch.zeros(2, dtype=torch.float64), q, q.kl(), q.mean, q.mean)
    objective = ELBO(free_bits=0.5)(draw)
    torch.testing.assert_close(objective, -(0.5 + own[:, 1]))
    objective.sum().backward()
    assert (raw.grad[:, [0, 2]] == 0).all() and (raw.grad[:, [1, 3]] != 0).all()


def test_iwae_of_one_draw_is_the_elbo_with_the_kl_of_the_draw():
    """Over 100,000 draws the mean is the ELBO's, within 5 standard errors (fails 1 seed in 10^6)."""
    draw = made_draw(100_000, n=1)
    singles = draw.log_likelihood + draw.q.log_prior_ratio(draw.z, draw.eps)
    grouped = draw._replace(log_likelihood=draw.log_likelihood[:, None], z=draw.z[:, None], eps=draw.eps[:, None])
    torch.testing.assert_close(IWAE()(grouped)[0], singles.mean())
    assert abs(singles.mean() - ELBO()(draw)[0]) < 5 * singles.std() / 100_000**0.5


def test_groups_of_draws_are_averaged():
    """(groups, draws, n): the mean of the groups' bounds, whatever the objective."""
    draw = made_draw(12)
    grouped = draw._replace(
        log_likelihood=draw.log_likelihood.unflatten(0, (3, 4)),
        z=draw.z.unflatten(0, (3, 4)),
        eps=draw.eps.unflatten(0, (3, 4)),
    )
    for objective in (ELBO(), IWAE(), InfoVAE()):
        parts = [
            objective(draw._replace(log_likelihood=draw.log_likelihood[g], z=draw.z[g], eps=draw.eps[g]))
            for g in (slice(0, 4), slice(4, 8), slice(8, 12))
        ]
        torch.testing.assert_close(objective(grouped), torch.stack(parts).mean(0))
    assert (IWAE()(draw) > IWAE()(grouped)).all()  # more draws, a tighter bound


def test_iwae_rises_with_more_draws_and_is_exact_for_the_exact_posterior():
    """x = z + e in one dimension: q exact gives log p(x) = log N(x; 0, 1 + s) from a single draw."""
    x, noise = torch.tensor([[0.7], [-2.0]], dtype=torch.float64), 0.3
    variance = noise / (1 + noise)
    exact = torch.distributions.Normal(0.0, (1 + noise) ** 0.5).log_prob(x[:, 0])

    def bound(spread, n_draws, seed):
        raw = torch.cat([x / (1 + noise), torch.full_like(x, math.log(variance * spread))], dim=1)
        q = POSTERIORS["diag"](raw, 1)
        eps = torch.randn(n_draws, 2, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        z = q.rsample(eps)
        log_likelihood = torch.distributions.Normal(z, noise**0.5).log_prob(x).sum(-1)
        return IWAE()(ModelOutput(log_likelihood, q, q.kl(), z, eps))

    torch.testing.assert_close(bound(1.0, 1, 0), exact)
    torch.testing.assert_close(bound(1.0, 7, 0), exact)
    loose = [torch.stack([bound(3.0, k, seed) for seed in range(400)]).mean(0) for k in (1, 5, 50)]
    assert (loose[0] < loose[1] - 0.05).all() and (loose[1] < loose[2]).all() and (loose[2] < exact + 0.02).all()


def test_score_of_an_iwae_is_importance_bound():
    terms = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.log(torch.exp(terms[0] + terms[1]).mean(0))
    torch.testing.assert_close(importance_bound(terms[0], terms[1]), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("d", [1, 2, 10, 50])
def test_kernels_are_the_mixtures_they_are_said_to_be(kernel, d):
    """sum_t w_t exp(-t r) = k(r), for squared distances up to the prior's largest."""
    k, rate, weight = KERNELS[kernel](d)
    distance = torch.linspace(0.0, 8.0 * d, 50, dtype=torch.float64)
    rate, weight = torch.tensor(rate, dtype=torch.float64), torch.tensor(weight, dtype=torch.float64)
    mixture = torch.exp(-distance[:, None] * rate) @ weight
    torch.testing.assert_close(mixture, k(distance), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_agrees_with_draws_from_the_prior(kernel):
    """Against 4,000 draws a side in place of the closed forms, within 5 standard errors (fails 1 seed in 10^6)."""
    d, n = 4, 40
    generator = torch.Generator().manual_seed(0)
    z = 0.5 + 0.7 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    prior, other = torch.randn(2, 4000, d, generator=generator, dtype=torch.float64)
    k = KERNELS[kernel](d)[0]
    square = lambda a, b: torch.cdist(a, b).square()  # noqa: E731
    pairs = k(square(z, z)).sum() - n
    to_prior, of_prior = k(square(z, prior)).mean(0), k(square(prior, other)).mean(0)
    expected = pairs / (n * (n - 1)) - 2 * to_prior.mean() + of_prior.mean()
    error = ((2 * to_prior.std()) ** 2 + 2 * of_prior.var()).sqrt() / 4000**0.5
    mmd = InfoVAE(kernel=kernel).mmd(z)
    assert abs(mmd - expected) < 5 * error


@pytest.mark.parametrize("kernel", KERNELS)
def test_expectations_over_the_prior_in_one_dimension_by_quadrature(kernel):
    k = KERNELS[kernel](1)[0]
    density = lambda x, s=1.0: math.exp(-x * x / (2 * s)) / math.sqrt(2 * math.pi * s)  # noqa: E731
    value = lambda r: float(k(torch.tensor(r)))  # noqa: E731
    for z in (0.0, 0.8, 3.0):
        near = quad(lambda x, z=z: density(x) * value((x - z) ** 2), -12, 12)[0]
        both = quad(lambda x: density(x, 2.0) * value(x * x), -15, 15)[0]
        one = torch.tensor([[z]], dtype=torch.float64)  # a single row has no pairs
        assert InfoVAE(kernel=kernel)._mmd(one).item() == pytest.approx(both - 2 * near, abs=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_has_no_bias_and_tells_a_narrow_posterior(kernel):
    """Rows of the prior: 0 in the mean of 300 batches, within 5 standard errors; rows of half its width: above 0."""
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(300, 32, 5, generator=generator, dtype=torch.float64)
    info = InfoVAE(kernel=kernel)
    at_prior = torch.stack([info.mmd(batch) for batch in z])
    assert at_prior.mean().abs() < 5 * at_prior.std() / 300**0.5
    assert torch.stack([info.mmd(0.5 * batch) for batch in z]).mean() > 10 * at_prior.std() / 300**0.5


def test_mmd_of_many_rows_is_that_of_parts_from_all_over_and_of_several_draws_their_mean():
    z = torch.randn(2500, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    info = InfoVAE()
    parts = [info._mmd(z[i::3]) * len(z[i::3]) / 2500 for i in range(3)]
    torch.testing.assert_close(info.mmd(z), sum(parts))
    draws = z[:2000].reshape(4, 500, 3)
    torch.testing.assert_close(info.mmd(draws), torch.stack([info.mmd(part) for part in draws]).mean(0))


def test_a_single_row_has_no_discrepancy_and_gets_no_gradient():
    z = torch.ones(1, 4, requires_grad=True)
    penalty = InfoVAE().penalty(z)
    assert penalty == 0 and not penalty.requires_grad


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_scores_do_not_depend_on_how_rows_are_taken_in_blocks(objective, monkeypatch):
    """Rows in order, as a stretch of a time series is: what is of all rows together is computed of all together."""
    X = np.sort(curved_spectra(300), axis=0)
    vae = VAETransformer(2, objective=objective, **small(n_draws=2, max_iter=1, validation_fraction=None)).fit(X)
    u, eps = to_device(vae.net_, Rows(X)), torch.randn(3, 2, 300, 2, generator=torch.Generator().manual_seed(0))
    whole = vae.net_.score_rows(u, eps)
    monkeypatch.setattr(net_module, "rows_per_block", lambda *_: 7)
    torch.testing.assert_close(vae.net_.score_rows(u, eps), whole, rtol=0, atol=1e-3)


def test_info_at_alpha_0_and_lambda_1_is_the_elbo_and_at_alpha_1_has_no_kl():
    draw = made_draw(3)
    torch.testing.assert_close(InfoVAE(lambda_=1.0)(draw), ELBO()(draw))
    without = InfoVAE(alpha=1.0, lambda_=2.0)(draw)
    torch.testing.assert_close(without, draw.log_likelihood.mean(0) - 2 * InfoVAE().mmd(draw.z))
    with pytest.raises(ValueError, match="alpha"):
        InfoVAE(alpha=2.0)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="lambda_"):
        InfoVAE(alpha=0.0, lambda_=0.5)
    with pytest.raises(ValueError, match="imq"):
        InfoVAE(kernel="laplace")
    X = curved_spectra(30)
    with pytest.raises(ValueError, match="free_bits"):
        VAETransformer(objective="iwae", free_bits=0.1, **small()).fit(X)
    with pytest.raises(TypeError, match=r"functools\.partial"):
        VAETransformer(objective=InfoVAE(lambda_=3.0), **small()).fit(X)
    with pytest.raises(TypeError, match="beta"):
        VAETransformer(objective=lambda: ELBO(), **small()).fit(X)
    with pytest.raises(ValueError, match="info"):
        VAETransformer(objective="elb", **small()).fit(X)


class CubedKL(Objective):
    """An objective of one's own."""

    def rows(self, draw, share=1.0):
        expected = draw.log_likelihood.reshape(-1, len(draw.kl)).mean(0)
        return expected - self.beta * share * draw.kl**3 / 100


@pytest.mark.parametrize("objective", [CubedKL, partial(InfoVAE, alpha=0.5, lambda_=20.0, kernel="rbf")])
def test_an_objective_of_ones_own(objective, spectra):
    vae = VAETransformer(2, objective=objective, **small(validation_fraction=None)).fit(spectra)
    assert vae.history_[-1]["train_score"] > vae.history_[0]["train_score"]
    assert np.isfinite(vae.score(spectra))


def test_free_bits_keep_components_alive_in_noise():
    """Rows of independent noise have nothing to say: the ELBO's KL falls to 0, free bits let some stay."""
    X = np.random.RandomState(0).standard_normal((400, 10))
    settings = small(init="random", max_iter=60, validation_fraction=None, learning_rate_init=1e-2)
    kl = [VAETransformer(3, free_bits=b, **settings).fit(X).history_[-1]["train_kl"] for b in (0.0, 0.5)]
    assert kl[0] < 0.1 and kl[1] > 0.3


def test_kl_warmup_starts_at_no_weight_and_ends_at_beta(spectra):
    """The loss of the first epochs lacks the KL; scores, and so the kept weights, are at full weight."""
    settings = small(max_iter=8, validation_fraction=None, batch_size=300)  # one step per epoch
    warm = VAETransformer(2, kl_warmup=4, **settings).fit(spectra)
    assert warm.net_.training_step_.kl_scale.item() == 1.0
    cold = VAETransformer(2, **settings).fit(spectra)
    first = warm.history_[1]
    assert cold.history_[1]["train_loss"] - first["train_loss"] == pytest.approx(0.75 * first["train_kl"], rel=1e-3)
    assert warm.history_[0]["train_score"] == cold.history_[0]["train_score"]
    assert warm.history_[-1]["train_loss"] == pytest.approx(cold.history_[-1]["train_loss"], abs=2)


def test_kl_warmup_goes_on_over_partial_fits_and_is_over_before_patience_counts(spectra):
    vae = VAETransformer(2, kl_warmup=3, **small())
    shares = [vae.partial_fit(spectra).net_.training_step_.kl_scale.item() for _ in range(4)]
    np.testing.assert_allclose(shares, [1 / 3, 2 / 3, 1, 1], rtol=1e-6)
    impatient = small(max_iter=20, early_stopping=True, n_iter_no_change=2, tol=1e6)
    assert VAETransformer(2, kl_warmup=5, **impatient).fit(spectra).n_iter_ == 7


def test_iwae_s_gradient_is_that_of_the_draws_by_their_normalised_weights():
    """Burda et al., eq. (13) and (14): sum_k w_k / sum_l w_l grad log w_k, by one backward pass per draw."""
    x, family = torch.tensor([[0.7, -1.0]], dtype=torch.float64), POSTERIORS["full"]
    eps = torch.randn(6, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    raw = torch.randn(1, family.n_raw(2), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    raw.requires_grad_()

    def draw(eps):
        q = family(raw, 2)
        z = q.rsample(eps)
        return ModelOutput(-2 * (x - z).square().sum(-1), q, q.kl(), z, eps)

    (gradient,) = torch.autograd.grad(IWAE()(draw(eps)).sum(), raw)
    singles = [IWAE()(draw(one)) for one in eps]
    weights = torch.softmax(torch.stack(singles).detach(), dim=0)
    expected = sum(w * torch.autograd.grad(one.sum(), raw)[0] for w, one in zip(weights, singles, strict=True))
    torch.testing.assert_close(gradient, expected)


def test_a_fit_that_ends_in_the_warm_up_has_not_diverged():
    """Its score is at full beta, which training has not reached."""
    X = (np.random.RandomState(0).uniform(size=(200, 3)) < 0.5).astype(float)
    settings = small(likelihood="bernoulli", max_iter=40, validation_fraction=None, learning_rate_init=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae = VAETransformer(2, kl_warmup=1000, **settings).fit(X)
    assert vae.history_[-1]["train_score"] < vae.history_[0]["train_score"] - 1 and vae.n_iter_ == 40


def test_table_is_complete():
    ours = {cls for base in (Objective, *Objective.__subclasses__()) for cls in base.__subclasses__()}
    assert {cls for cls in ours if cls.__module__.startswith("skvae.")} == set(OBJECTIVES.values())
