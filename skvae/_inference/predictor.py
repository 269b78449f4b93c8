"""Arrays through a trained module, a block of rows at a time, in the dtype of the arrays."""

import copy
import warnings
from functools import partial

import numpy as np
import torch

from .._data.arrays import to_numpy
from .._data.rows import (
    UnevenRows,
    all_missing,
    as_rows,
    blocks,
    in_all_columns,
    is_uneven,
    rows_per_block,
    values_and_errors,
)
from .._model.laplace import LANES, bound, local_mode, mode_variance, normal_draws
from .._model.torch_defaults import torch_defaults
from ..networks import decoder_values, last_layer_span
from ..objectives import importance_bound
from .contributions import ScoreDistance, q_contributions

ACTIVE = 0.01  # variance of a posterior mean, in units of the prior's, under which a component carries nothing
N_REFINING_STEPS = 8
N_PROPOSALS, RESAMPLED = 1024, 16  # draws of z that conditional samples are taken from: so many, or for each sample
N_SCORING_STEPS = 30  # a step lowers a log rate that is too high by one at most


def check_finite(numbers):
    """The array or tensor itself: no number is returned for which its dtype has no room.

    Raises
    ------
    ValueError
        If a number is infinite or NaN.
    """
    if not (torch if isinstance(numbers, torch.Tensor) else np).isfinite(numbers).all():
        raise ValueError(
            f"Numbers exceed the range of {numbers.dtype}: X is too large for it or too far from the training rows, or "
            "these were trained on with too large a learning_rate_init."
        )
    return numbers


def squared_residuals(values, reconstruction, share=None):
    """Of each row (n, p): p times the mean over its measured values, float64.

    The square of a value counts in its `share` v / (v + s^2) (n, p), which brings it to the noise v that it would have
    without its error s; None where all are 1.
    """
    return q_contributions(values, reconstruction, share).abs().sum(1)


def warn_of_empty_rows(X):
    """Warn of rows without any measured value."""
    empty = np.flatnonzero(all_missing(X))
    if len(empty):
        warnings.warn(
            f"In {len(empty)} of {len(X)} rows of X no value was measured, such as row {empty[0]}: what is said of "
            "them is what the model expects of any row.",
            UserWarning,
            stacklevel=5,
        )


class Predictor:
    """A trained `VAEModule` as functions from rows to arrays of their library, with components in the user's order.

    Rows X, which may have NaN and errors, and Z are Rows, ndarrays or tensors. A predictor that is kept is never stale:
    it computes with the module itself or, in float64, with a copy that is compared with the module at each call.

    Parameters
    ----------
    trained : VAEModule
    dtype : {np.float32, np.float64}
        Of arrays and of the computation.
    columns : ndarray of bool of shape (p,) or None, default=None
        Which columns of X the module knows. In results that have a value for each column, NaN stands for the others.
    """

    def __init__(self, trained, dtype, columns=None):
        self.trained = trained
        self.columns = columns
        self.dtype = torch.float64 if dtype == np.float64 else torch.float32
        self._copy = None
        self._seen = None
        self.device = trained.shift.device

    @property
    @torch_defaults()
    def module(self):
        """The module that computes: the trained one, or its `double_copy` of the present numbers.

        A copy whose numbers are old is replaced, not changed, as another thread may be computing with it.
        """
        if self.dtype == torch.float32:
            return self.trained
        module = self._copy
        if module is None or not has_numbers_of(module, self.trained):
            module = self._copy = double_copy(self.trained)
        return module

    def _results(self, function, X, n_values):
        """Yield the slices of X and function(block of X), for blocks with `n_values` numbers per row.

        Blocks are filled up to a multiple of `LANES` rows, unless so many would take over 4 times what a block does.
        """
        size = rows_per_block(n_values, self.device)
        lanes = LANES if 4 * size >= LANES else 1
        for rows in blocks(len(X), -(-size // lanes) * lanes):
            block = X[rows].to(self.device)
            n = len(block)
            if n % lanes:
                block = torch.cat([block, block[:1].expand(-n % lanes, *block.shape[1:])])
            yield rows, check_finite(function(block)[:n])

    @torch_defaults(grad=False)
    def _map(self, function, X, n_values, columns=None):
        """Stack function(block of X), as an array of X's library; of values (n, ..., k) of these columns, for all."""
        out, X = None, as_rows(X)
        for rows, result in self._results(function, X, n_values):
            result = in_all_columns(result, columns)
            if out is None:
                out = result.new_empty((len(X), *result.shape[1:]), device=X.device)
            out[rows] = result
        return X.to_library_of_X(out)

    def _encoding(self, X):
        """The rows, how many steps refine what a module sees of them, and how many numbers a row takes for that."""
        X, p, d = as_rows(X), len(self.trained.shift), self.trained.n_components
        if not is_uneven(X):
            return X, 0, p
        warn_of_empty_rows(X)
        return UnevenRows(X), N_REFINING_STEPS, 2 * p + 4 * d**2

    def _encoder(self, n_steps):
        """The module that encodes: only steps need its decoder in double precision, of which else no copy is made."""
        return self.module if n_steps else self.trained

    def transform(self, X):
        """Posterior means (n, d)."""
        X, n_steps, n_values = self._encoding(X)
        module = self._encoder(n_steps)
        return self._map(lambda x: module.transform(x, n_steps), X, n_values)

    def comparable_scores(self, X):
        """Posterior means (n, d), those of rows with errors stretched to the spread of rows without.

        An error shrinks the posterior mean to the prior's, and so Hotelling's T2.
        """
        X, n_steps, n_values = self._encoding(X)
        module = self._encoder(n_steps)
        return self._map(lambda x: comparable_scores(module, x, n_steps), X, n_values)

    @torch_defaults(grad=False)
    def value_shares(self, X, Z):
        """`value_shares` (n, p) of Rows X at their latents, an ndarray Z; None if all values are measured alike."""
        if not is_uneven(X):
            return None
        module, X, Z = self.module, UnevenRows(X), as_rows(Z)
        parts = blocks(len(X), rows_per_block(3 * len(module.shift), self.device))
        return to_numpy(torch.cat([value_shares(module, *(a[b].to(self.device) for a in (X, Z))).cpu() for b in parts]))

    def covariance(self, X):
        """Posterior covariances (n, d, d)."""
        X, n_steps, n_values = self._encoding(X)
        module = self._encoder(n_steps)

        def covariance(x):
            rows_ordered = module.to_user_order(module.encode(module.standardise(x), n_steps).covariance())
            return module.to_user_order(rows_ordered.mT)

        return self._map(covariance, X, n_values + module.n_components**2)

    def kl_of_components(self, X):
        """KL(q_j || N(0, 1)) of each component (n, d), nats."""
        X, n_steps, n_values = self._encoding(X)
        module = self._encoder(n_steps)

        def kl(x):
            return module.encode(module.standardise(x), n_steps).kl_of_components()[..., module.order]

        return self._map(kl, X, n_values)

    def inverse_transform(self, Z):
        """Means (n, p) of p(x | z)."""
        module = self.module
        return self._map(module.inverse_transform, Z, len(module.shift), self.columns)

    def mean_inverse_transform(self, Z):
        """Means (n, p) of E[x | z] over the draws of each row's latents Z (n, n_draws, d)."""
        module = self.module

        def mean(z):
            return module.inverse_transform(z.flatten(0, 1)).unflatten(0, z.shape[:2]).mean(1)

        return self._map(mean, Z, Z.shape[1] * len(module.shift), self.columns)

    def jacobian(self, Z):
        """d E[x | z] / d z (n, d, p), in X's units."""
        module = self.module
        return self._map(lambda z: jacobian(module, z), Z, 2 * Z.shape[1] * len(module.shift), self.columns)

    @torch_defaults(grad=False)
    def mean_jacobian(self, Z, weight):
        """Means over the rows of d E[x | z] / d z (d, p) and of its squared length (d,), for weights of sum 1."""
        module = self.module
        mean, square = 0.0, 0.0
        n_values = 2 * Z.shape[1] * len(module.shift)
        for rows, result in self._results(lambda z: jacobian(module, z), as_rows(Z), n_values):
            result = to_numpy(result)
            mean = mean + np.einsum("n, ndp -> dp", weight[rows], result)
            square = square + np.einsum("n, ndp, ndp -> d", weight[rows], result, result)
        return mean, square

    @torch_defaults()
    def noise(self, n, seed, matched=False):
        """Standard normal draws (n, d); matched: their mean is exactly 0 and, of more than d, their covariance I."""
        d = self.trained.n_components
        eps = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        if matched:
            eps = eps - eps.mean(0)
            if n > d:
                eps = torch.linalg.solve_triangular(torch.linalg.cholesky(eps.T @ eps / n), eps.T, upper=False).T
        return eps.to(self.device, self.dtype)

    @torch_defaults(grad=False)
    def score_samples(self, X, n_draws, seed):
        """Importance-weighted bounds (n,) on log p(x) in nats.

        All rows share the noise of the draws, so that a row's score depends on no other row.
        """
        if self._has_modes:
            return self._laplace_scores(X, n_draws, seed)
        module, (X, n_steps, n_values) = self.module, self._encoding(X)
        eps = self.noise(n_draws, seed).unsqueeze(1)

        def bound(x):
            return importance_bound(*module.importance_terms(module.standardise(x), eps, n_steps))

        return self._map(bound, X, n_draws * n_values)

    @property
    def _has_modes(self):
        """Whether `local_mode` finds the posterior, so that the encoder's is not needed."""
        likelihood = self.trained.likelihood
        return likelihood.has_channel_noise or likelihood.is_natural or not likelihood.has_noise

    @property
    def _span(self):
        """The span of the decoder's last layer under the channels' noise, or None; made anew where numbers changed."""
        if not self.trained.likelihood.has_channel_noise or self.trained.likelihood.has_tails:
            return None
        decoder, variance = self.trained.decoder, self.trained.likelihood.constant_variance().double()
        if self._seen is None or not (has_numbers_of(self._seen[0], decoder) and torch.equal(self._seen[1], variance)):
            self._seen = copy.deepcopy(decoder), variance, last_layer_span(decoder, 1 / variance)
        return self._seen[2]

    def _local_mode(self, x, span=None):
        """Rows x in the module's units and double precision, their modes, and the data."""
        module = self.trained
        u, likelihood = module.standardise(x.double()), module.likelihood
        variance = None if likelihood.is_natural else likelihood.constant_variance().double()
        if likelihood.is_natural or likelihood.has_tails:
            return u, *local_mode(module, u, variance, n_steps=N_SCORING_STEPS)
        return u, *local_mode(module, u, variance, span=span)

    def _laplace_scores(self, X, n_draws, seed):
        """`score_samples` with draws from the Laplace posterior (`local_mode`)."""
        module, (X, _, n_values) = self.trained, self._encoding(X)
        eps = normal_draws(n_draws, module.n_components, seed).to(self.device)
        span, log_scale = None if isinstance(X, UnevenRows) else self._span, module.scale.log()
        decode = partial(decoder_values, module.decoder if span is None else span.decoder)

        def scores(x):
            u, mode, data = self._local_mode(x, span)
            errors = values_and_errors(u)[1]
            log_volume = module.log_volume if errors is None else (~errors.isinf()).double() @ log_scale
            return (bound(decode, mode.posterior(), data, eps) - log_volume).to(x.dtype)

        n_seen = n_values if span is None else span.basis.shape[1]
        return self._map(scores, X, max(n_values, n_seen * max(1 + module.n_components, n_draws)))

    def _laplace_moments(self, X, n_draws, seed, weighted, **options):
        """`predictive` with draws from the Laplace posterior of what the measured values say."""
        module, (X, _, n_values) = self.trained, self._encoding(X)
        eps = self.noise(n_draws, seed, matched=True).double().unsqueeze(1)

        def moments(x):
            _, mode, data = self._local_mode(x)
            q = mode.posterior()
            z = q.rsample(eps)
            raw = decoder_values(module.decoder, z.flatten(0, 1)).unflatten(0, z.shape[:2])
            log_weight = data.log_likelihood(raw.clone()) + q.log_prior_ratio(z, eps) if weighted else None
            return torch.stack(mixture_moments(module, raw, log_weight, **options), dim=1).to(x.dtype)

        return self._map(moments, X, n_draws * n_values, self.columns)

    def _channel_reconstruction(self, X, with_std, with_noise):
        """The unweighted `predictive` under a noise per channel: Laplace's, the decoder taken as linear within it."""
        module, (X, _, n_values) = self.trained, self._encoding(X)
        noise = with_noise * module.likelihood.constant_variance().double()

        def moments(x):
            _, mode, _ = self._local_mode(x)
            results = [module.restore(mode.values)]
            if with_std:
                results.append((noise + mode_variance(mode)).sqrt() * module.scale)
            return torch.stack(results, dim=1).to(x.dtype)

        return self._map(moments, X, n_values * (1 + module.n_components), self.columns)

    def predictive(self, X, n_draws, seed, weighted, with_std=True, with_noise=True):
        """Mean and, if asked for, standard deviation (n, 1 or 2, p) of p(x' | z) over draws of z given x.

        With noise, the standard deviation is that of a row x' without errors, else that of its mean E[x' | z].

        The draws are those of q(z | x), the encoder's or Laplace's; weighted, by p(x, z) / q(z | x), they stand for the
        model's own posterior.
        """
        if self.trained.likelihood.has_channel_noise and not weighted:
            return self._channel_reconstruction(X, with_std, with_noise)
        if self._has_modes:
            return self._laplace_moments(X, n_draws, seed, weighted, with_std=with_std, with_noise=with_noise)
        module, (X, n_steps, n_values) = self.module, self._encoding(X)
        eps = self.noise(n_draws, seed, matched=True).unsqueeze(1)

        def moments(x):
            u = module.standardise(x)
            q = module.encode(u, n_steps)
            z = q.rsample(eps)  # (K, n, d)
            raw = module.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
            log_weight = None
            if weighted:
                log_weight = module.log_likelihood(raw, u) + q.log_prior_ratio(z, eps)
            return torch.stack(mixture_moments(module, raw, log_weight, with_std, with_noise), dim=1)

        return self._map(moments, X, n_draws * n_values, self.columns)

    @torch_defaults(grad=False)
    def feature_covariance(self, n_draws, seed):
        """Cov[E[x | z]] + E[Var[x | z]] (p, p), over matched draws of z: exact where E[x | z] is linear."""
        module = self.module
        p, z = len(module.shift), self.noise(n_draws, seed, matched=True)
        second, total, noise = np.zeros((p, p)), np.zeros(p), np.zeros(p)
        for rows in blocks(n_draws, rows_per_block(p, self.device)):
            raw = module.decoder(z[rows])
            mean = module.likelihood.mean(raw).cpu().double().numpy()
            second += mean.T @ mean
            total += mean.sum(0)
            noise += module.likelihood.variance(raw).sum(0).cpu().double().numpy()
        scale = module.scale.cpu().double().numpy()
        covariance = (second - np.outer(total, total) / n_draws + np.diag(noise)) / n_draws
        return scale[:, None] * covariance * scale

    def squared_residuals(self, X):
        """Squared distances (n,) of rows from their reconstructions, float64."""
        module, (X, n_steps, n_values) = self.module, self._encoding(X)

        def squares(x):
            z = module.transform(x, n_steps)
            return squared_residuals(values_and_errors(x)[0], module.inverse_transform(z), value_shares(module, x, z))

        return self._map(squares, X, n_values)

    def q_contributions(self, X):
        """What each channel contributes to `squared_residuals`, signed (n, p), float64."""
        module, (X, n_steps, n_values) = self.module, self._encoding(X)

        def signed_squares(x):
            z = module.transform(x, n_steps)
            return q_contributions(values_and_errors(x)[0], module.inverse_transform(z), value_shares(module, x, z))

        return self._map(signed_squares, X, n_values, self.columns)

    @torch_defaults(grad=False)
    def t2_contributions(self, X, statistics, mean):
        """What each channel contributes to T2 (n, p), of a predictor in float64; `mean` (p,) is that of the columns."""
        module, (X, n_steps, n_values) = self.module, self._encoding(X)
        distance = ScoreDistance(module, statistics)
        origin = distance.nearest_row_without(torch.from_numpy(mean).to(self.device, torch.float64))

        def contributions(x):
            x = x.double()
            return distance.contributions(module.seen(x, n_steps), origin, comparable_scores(module, x, n_steps))

        return self._map(contributions, X, 4 * n_values, self.columns)

    @torch_defaults(grad=False)
    def sample(self, n_samples, seed, noise=True, given=None):
        """Rows (n_samples, p) drawn from the model, or from what it says of the values that a row `given` lacks."""
        module = self.module
        generator = torch.Generator(self.device).manual_seed(seed)

        def draw(z):
            raw = module.decoder(z)
            return module.restore(module.likelihood.sample(raw, generator) if noise else module.likelihood.mean(raw))

        if given is None:
            shape = n_samples, module.n_components
            z = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        else:
            z = self._latents_given(UnevenRows(given)[:].to(self.device), n_samples, seed, generator).to(self.dtype)
        return self._map(draw, z.cpu(), len(module.shift), self.columns)

    def _latents_given(self, x, n_samples, seed, generator):
        """Draws (n_samples, d) of z given the measured values of one row x (1, 2, p), by importance resampling."""
        module, eps = self.module, self.noise(max(N_PROPOSALS, RESAMPLED * n_samples), seed).unsqueeze(1)
        if self._has_modes:
            _, mode, data = self._local_mode(x)
            q, eps, log_likelihood = mode.posterior(), eps.double(), data.log_likelihood
            decode = partial(decoder_values, self.trained.decoder)
        else:
            u = module.standardise(x)
            q, decode = module.encode(u, N_REFINING_STEPS), module.decoder
            log_likelihood = partial(module.log_likelihood, u=u)
        z = q.rsample(eps)  # (K, 1, d)
        log_weight = q.log_prior_ratio(z, eps)
        for rows in blocks(len(z), rows_per_block(len(module.shift), self.device)):
            log_weight[rows] += log_likelihood(decode(z[rows].flatten(0, 1)).unsqueeze(1))
        return z[resampled(log_weight.flatten().softmax(0), n_samples, generator), 0]


def resampled(weight, n, generator):
    """Places (n,) of draws with weights (K,) of sum 1: of each as many as n times its weight, rounded up or down.

    This is systematic resampling (Kitagawa, Monte Carlo filter and smoother for non-Gaussian nonlinear state space
    models, 1996).
    """
    offset = torch.rand((), generator=generator, device=weight.device, dtype=torch.float64)
    steps = (torch.arange(n, device=weight.device) + offset) / n
    return torch.searchsorted(weight.double().cumsum(0), steps).clamp(max=len(weight) - 1)


def comparable_scores(module, x, n_steps):
    """`Predictor.comparable_scores` (n, d) of rows x, refined in so many steps."""
    u = module.standardise(x)
    return module.to_user_order(module.stretched(module.encode(u, n_steps).mean, u, ACTIVE))


def value_shares(module, x, z):
    """v / (v + s^2) of each value of rows x (n, 2, p), for its error s and its noise v at z; None of rows (n, p).

    Without noise beside the errors, v is what takes the noise's place in the linear model.
    """
    errors = values_and_errors(x)[1]
    if errors is None:
        return None
    exact = (errors == 0).double()
    if not module.likelihood.takes_errors:
        return exact
    noise = module.fill_noise
    if module.likelihood.has_noise:
        noise = module.likelihood.variance(module.decoder(module.to_model_order(z)))
    noise = noise.double() * module.scale.double().square()
    return torch.where(errors > 0, noise / (noise + errors.double().square()), exact)


def mixture_moments(module, raw, log_weight, with_std, with_noise=True):
    """Mean and, `with_std`, standard deviation (n, p) in X's units of the mixture of p(x | z_k) over draws z_k.

    Parameters
    ----------
    module : VAEModule
    raw : Tensor of shape (K, n, n_raw)
        The decoder's outputs.
    log_weight : Tensor of shape (K, n) or None
        None if the draws weigh alike.
    with_std : bool
    with_noise : bool, default=True
        Whether the standard deviation is that of x, or that of E[x | z].
    """
    mean = module.likelihood.mean(raw)
    if log_weight is None:
        log_weight = mean.new_zeros(raw.shape[:2])
    weight = log_weight.clamp(min=torch.finfo(log_weight.dtype).min).softmax(0)  # far from the data all may be -inf
    expected = torch.einsum("kn, knp -> np", weight, mean)
    results = [module.restore(expected)]
    if with_std:
        variance = (mean - expected).square()
        if with_noise:
            variance = module.likelihood.variance(raw) + variance
        total_variance = torch.einsum("kn, knp -> np", weight, variance)
        results.append(total_variance.sqrt() * module.scale.to(total_variance.dtype))
    return results


def jacobian(module, z):
    """d E[x | z] / d z (n, d, p), along each component, by twice backward: forward mode is not safe in threads."""
    n, d = z.shape
    directions = torch.eye(d, dtype=z.dtype, device=z.device).repeat_interleave(n, 0)
    _, slopes = torch.autograd.functional.jvp(module.inverse_transform, z.repeat(d, 1), directions)
    return slopes.unflatten(0, (d, n)).transpose(0, 1)


def double_copy(module):
    """A copy in double precision, but for the encoder, which it shares with the module.

    The encoder computes its linear map in the rows' precision. What its network adds is a few standard deviations of
    the posterior, which single precision tells to 1e-6 of one. The decoder is in double precision throughout, so that
    differences of its means, divided by small steps, are slopes.
    """
    copied = copy.deepcopy(module, {id(module.encoder): None})
    copied.double().encoder = module.encoder
    return copied


@torch.no_grad()
def has_numbers_of(module, other):
    """Whether all parameters and buffers of a module are those of another, whatever its dtype is."""
    pairs = zip((*module.parameters(), *module.buffers()), (*other.parameters(), *other.buffers()), strict=True)
    return all(mine is theirs or torch.equal(mine, theirs.to(mine.dtype)) for mine, theirs in pairs)
