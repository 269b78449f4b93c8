r"""The posterior of a nonlinear decoder by Laplace's method, and the bound on log p(x) that it proposes draws for.

For one row with decoder f, J = d f / d z at z, score s and Fisher information w of log p(x | f) in each value:

    gradient of log p(x, z)      g = J^T s - z
    its expected curvature       P = I + J^T diag(w) J
    a Gauss-Newton step          z <- z + t P^-1 g,   t = 1, halved until log p(x, z) rises

With Gaussian noise s_j = w_j (x_j - f_j), and w_j is the value's precision: 1 / v_j; 0 where it is missing; 1 / (v_j +
s_j^2) where its error s_j is known. An exponential family in its natural parameter f has s = x - E[x | f] and w =
Var[x | f], and the step is Fisher's scoring (McCullagh and Nelder, Generalized linear models, 1989, section 2.5). At
the mode z*, N(z*, P^-1) is the proposal of the importance-weighted bound: exact where the decoder is linear.

References
----------
Nocedal and Wright, Numerical optimization, 2006, chapter 10. Tierney and Kadane, Accurate approximations for posterior
moments, 1986. Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .._data.rows import values_and_errors
from ..likelihoods._student_t import t_log_density
from ..networks import Span, by_columns, decoder_jacobian, decoder_values
from ..posteriors import Posterior
from .torch_defaults import float32_by_default

LOG_2PI = math.log(2 * math.pi)
EDGE = 2.0**-31  # a Sobol point may be 0, whose quantile is not finite
ALIGNED = 64  # bytes: each row's matrix then starts like the others', and its product has the same bits
LANES = 32  # rows are computed in multiples of it, so that a row's result does not depend on the others (`by_columns`)
COLUMNS = 2048  # of a Jacobian that are worked on at once
GAIN = 0.01  # nats: a row that has less to win takes no further step
N_TRIED = 256  # points at which a search may begin, where the encoder's mean is worse
REACH = (1.0, 2.0, 4.0, 8.0)  # of the points, in standard deviations of the prior
NEAR = 1.0  # nats: a row that has moved less keeps its Jacobian; 1.4 standard deviations of its posterior

Decode = Callable[[Tensor], Tensor]  # z (n, d) -> values (n, m)
Differentiate = Callable[[Tensor], tuple[Tensor, Tensor]]  # z (n, d) -> values (n, m), Jacobian (n, d, m)


class Local(NamedTuple):
    """log p(x | f) of each row about the decoder's output f (n, m)."""

    log_likelihood: Tensor  # (n,), up to a constant
    score: Tensor  # (n, m), its derivative in f
    fisher: Tensor  # (m,) or (n, m), the expected curvature


class GaussianData:
    """Rows with a precision for each value.

    Parameters
    ----------
    x : Tensor of shape (n, p)
        Anything finite where the precision is 0.
    precision : Tensor of shape (p,) or (n, p)
        0 where a value is missing.
    constant : Tensor of shape () or (n,), or None
        What log p(x | f) is where x = f; None for the normal density's.
    """

    def __init__(self, x: Tensor, precision: Tensor, constant: Tensor | None = None) -> None:
        self.x, self.precision = x, precision
        self.constant = log_height(precision) if constant is None else constant

    def __getitem__(self, rows: Tensor) -> "GaussianData":
        each = self.precision[rows] if self.precision.ndim > 1 else self.precision
        return GaussianData(self.x[rows], each, self.constant[rows] if self.constant.ndim else self.constant)

    def local(self, f: Tensor) -> Local:
        residual = self.x - f
        score = residual * self.precision
        return Local(self.constant - 0.5 * (residual.mul_(score)).sum(-1), score, self.precision)

    def log_likelihood(self, f: Tensor) -> Tensor:
        """log p(x | f) (..., n) in nats, for f (..., n, p); f's memory is used."""
        residual = f.sub_(self.x).square_()
        return self.constant - 0.5 * residual.mul_(self.precision).sum(-1)  # a product's bits hang on the alignment


class TailedData:
    """Rows whose values have a t distribution about the decoder's output.

    The curvature is that of EM's normal distribution under the log density (Lange, Little and Taylor, 1989), with which
    a step never falls where the decoder is linear: a value far out has next to none.

    Parameters
    ----------
    x, c : Tensor of shape (n, p)
        Values, anything finite where one is missing, and squared scales, there infinite.
    nu : Tensor of shape ()
        Degrees of freedom.
    """

    def __init__(self, x: Tensor, c: Tensor, nu: Tensor) -> None:
        self.x, self.c, self.nu = x, c, nu

    def __getitem__(self, rows: Tensor) -> "TailedData":
        return TailedData(self.x[rows], self.c[rows], self.nu)

    def local(self, f: Tensor) -> Local:
        residual = self.x - f
        weight = ((self.nu + 1) / (self.nu * self.c + residual.square())).nan_to_num(0.0)
        return Local(self._log_likelihood(residual.square()), weight * residual, weight)

    def log_likelihood(self, f: Tensor) -> Tensor:
        """log p(x | f) (..., n) in nats, for f (..., n, p)."""
        return self._log_likelihood((self.x - f).square())

    def _log_likelihood(self, square: Tensor) -> Tensor:
        measured = ~self.c.isinf()
        density = t_log_density(square, torch.where(measured, self.c, 1.0), self.nu)
        return torch.where(measured, density, 0.0).sum(-1)


class NaturalData:
    """Rows of an exponential family whose natural parameter is the decoder's output.

    Parameters
    ----------
    likelihood : Likelihood
        That `is_natural`.
    x : Tensor of shape (n, p)
        Anything in the support where a value is missing.
    measured : bool Tensor of shape (n, p), or None
        None if no value is missing.
    """

    def __init__(self, likelihood: Any, x: Tensor, measured: Tensor | None = None) -> None:
        self.likelihood, self.x, self.measured = likelihood, x, measured

    def __getitem__(self, rows: Tensor) -> "NaturalData":
        return NaturalData(self.likelihood, self.x[rows], None if self.measured is None else self.measured[rows])

    def local(self, f: Tensor) -> Local:
        score, fisher = self.x - self.likelihood.mean(f), self.likelihood.variance(f)
        if self.measured is not None:
            score, fisher = score * self.measured, fisher * self.measured
        return Local(self.log_likelihood(f), score, fisher)

    def log_likelihood(self, f: Tensor) -> Tensor:
        """log p(x | f) (..., n) in nats, for f (..., n, p)."""
        if self.measured is None:
            return self.likelihood.log_prob(f, self.x)
        return (self.likelihood.log_density(f, self.x) * self.measured).sum(-1)

    def height(self, f: Tensor) -> Tensor:
        """log p(x | f) (n,), for f (n, p), less what is the same for all f: x f - A(f), A(f) = h(0) - log p(0 | f)."""
        height = self.x * f + self.likelihood.log_density(f, torch.zeros_like(f))
        return (height if self.measured is None else height * self.measured).sum(-1)

    def height_of_each(self, f: Tensor) -> Tensor:
        """`height` (n, K) of each row for each of f (K, p)."""
        measured = torch.ones_like(self.x) if self.measured is None else self.measured.to(self.x)
        at_zero = self.likelihood.log_density(f, torch.zeros_like(f))
        return by_columns(self.x * measured) @ f.T + by_columns(measured) @ at_zero.T


Data = GaussianData | TailedData | NaturalData


def log_height(precision: Tensor) -> Tensor:
    """The normal log density at its mode, summed over the values that are not missing."""
    logs = torch.where(precision > 0, precision, 1).log() - LOG_2PI * (precision > 0).to(precision)
    return 0.5 * logs.sum(-1)


def data_in_span(x: Tensor, span: Span) -> GaussianData:
    """What rows x (n, p) say to the decoder of a span, and all that they say of its height."""
    inside, outside = span.project(x)
    return GaussianData(inside, torch.ones_like(inside[0]), log_height(span.root.square()) - 0.5 * outside)


class LaplacePosterior(Posterior):
    """q(z | x) = N(mean, P^-1), given the Cholesky factor of P: L = factor^-T.

    Not a family for an encoder: it has no raw numbers.

    Parameters
    ----------
    mean : Tensor of shape (n, d)
    factor : Tensor of shape (n, d, d)
        Lower, with P = factor factor^T. More rows and columns, of an identity beside P, may stand at its end.
    """

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        d = mean.shape[-1]
        self.mean, self.factor, self.inverse = mean, factor[..., :d, :d], inverse_of(factor)[..., :d, :d]  # (n, d, d)

    def scale(self, eps: Tensor) -> Tensor:
        return (eps.unsqueeze(-1) * self.inverse).sum(-2)  # factor^-T eps, row by row

    def whiten(self, delta: Tensor) -> Tensor:
        return (delta.unsqueeze(-1) * self.factor).sum(-2)  # factor^T delta

    def log_det(self) -> Tensor:
        return -2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def variance(self) -> Tensor:
        return self.inverse.square().sum(-2)


class Mode(NamedTuple):
    """Where log p(x, z) of each row is greatest, near where the search began, and what a step from there needs."""

    z: Tensor  # (n, d)
    values: Tensor  # (n, m), the decoder's
    jacobian: Tensor  # (n, d, m), at `origin`
    factor: Tensor  # (n, D, D), Cholesky's, lower, of P, which an identity fills up to D rows
    log_joint: Tensor  # (n,), log p(x, z) less the prior's constant
    step: Tensor  # (n, d), P^-1 g
    gain: Tensor  # (n,), g^T P^-1 g / 2: the nats that the step promises
    origin: Tensor  # (n, d), where the Jacobian was taken: z, or near it

    def posterior(self) -> LaplacePosterior:
        return LaplacePosterior(self.z, self.factor)


MOVES = ("z", "values", "log_joint", "step", "gain")  # what a step changes that keeps its Jacobian


def precision_factor(jacobian: Tensor, fisher: Tensor) -> Tensor:
    """Lower Cholesky factor (n, D, D) of P = I + J^T diag(w) J, for J (n, d, m) and w (m,) or (n, m).

    P is filled up to D rows, a multiple of 4, by an identity.

    Factored with a diagonal of ones, which bears components of very different precision (van der Sluis, 1969), and
    with a few roundings added to it, so that it never fails.
    """
    top = fisher.amax(-1, keepdim=True).clamp(min=torch.finfo(fisher.dtype).tiny)
    weight = (fisher / top).sqrt().to(jacobian.dtype)
    whitened = aligned(jacobian)  # a copy, the only one, as J is large
    whitened[:, : jacobian.shape[1], : jacobian.shape[2]] *= weight if weight.ndim == 1 else weight.unsqueeze(1)
    # Rows of length about 1, as the squares of very large and very small numbers have no room in single precision.
    reach = torch.maximum(whitened.amax(-1, keepdim=True), -whitened.amin(-1, keepdim=True))
    reach.clamp_(min=torch.finfo(jacobian.dtype).tiny)
    whitened /= reach
    reach = reach.to(fisher.dtype) * top.sqrt().unsqueeze(-1)  # (n, D, 1)
    gram = (whitened @ whitened.mT).to(fisher.dtype) * (reach * reach.mT)
    gram.diagonal(dim1=-2, dim2=-1).add_(1)
    size = gram.diagonal(dim1=-2, dim2=-1).sqrt()  # (n, D)
    gram /= size.unsqueeze(-1) * size.unsqueeze(-2)
    gram.diagonal(dim1=-2, dim2=-1).fill_(1 + 4 * jacobian.shape[-2] * torch.finfo(jacobian.dtype).eps)
    return torch.linalg.cholesky_ex(gram).L * size.unsqueeze(-1)  # where there is no number, there is none here


def inverse_of(factor: Tensor) -> Tensor:
    """The inverses of lower triangular matrices (n, D, D)."""
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)


def aligned(jacobian: Tensor) -> Tensor:
    """J (n, d, m) filled up with zeros to rows of a multiple of `ALIGNED` bytes, and to a multiple of 4 of them."""
    d, m = jacobian.shape[-2:]
    return functional.pad(jacobian, (0, -m % (ALIGNED // jacobian.itemsize), 0, -d % 4))


def _at(z: Tensor, differentiate: Differentiate, data: Data) -> Mode:
    """What holds at z, the Jacobian taken anew."""
    values, jacobian = differentiate(z)
    local = data.local(values)
    return _mode(z, values, jacobian, precision_factor(jacobian, local.fisher), local, z.clone())


def _near(z: Tensor, decode: Decode, data: Data, old: Mode) -> Mode:
    """What holds at z, with the Jacobian and the curvature of a place near it."""
    values = decode(z)
    return _mode(z, values, old.jacobian, old.factor, data.local(values), old.origin)


def _again(old: Mode, data: Data) -> Mode:
    """What holds at the same place for data of other precisions."""
    local = data.local(old.values)
    return _mode(old.z, old.values, old.jacobian, precision_factor(old.jacobian, local.fisher), local, old.origin)


def _mode(z: Tensor, values: Tensor, jacobian: Tensor, factor: Tensor, local: Local, origin: Tensor) -> Mode:
    score = local.score.to(jacobian.dtype)
    gradient = torch.stack([(along * score).sum(-1) for along in jacobian.unbind(1)], 1) - z
    padded = functional.pad(gradient, (0, factor.shape[-1] - z.shape[-1]))
    step = torch.cholesky_solve(padded.unsqueeze(-1), factor).squeeze(-1)[:, : z.shape[-1]]
    log_joint = local.log_likelihood - 0.5 * z.square().sum(-1)
    return Mode(z, values, jacobian, factor, log_joint, step, 0.5 * (gradient * step).sum(-1), origin)


def _nats(change: Tensor, factor: Tensor) -> Tensor:
    """change^T P change / 2 (n,): half the squared length in standard deviations of the posterior."""
    d = change.shape[-1]
    return 0.5 * (change.unsqueeze(-1) * factor[:, :d, :d]).sum(-2).square().sum(-1)


def gauss_newton(
    decode: Decode,
    differentiate: Differentiate,
    start: Tensor | Mode,
    data: Data,
    n_steps: int = 6,
    gain: float = GAIN,
    near: float = NEAR,
) -> Mode:
    """Climb log p(x, z) by damped Gauss-Newton steps, each row by itself.

    A step is kept where log p(x, z) rises; where it does not, the next is half of it. Rows that have less than `gain`
    nats to win rest, so that the few that are far off do not cost passes for all. A row that is within `near` nats of
    where its Jacobian was taken keeps it: there the decoder is as good as linear, and a step costs one pass, not 1 + d.

    Parameters
    ----------
    decode, differentiate : callable
        As `decoder_values` and `decoder_jacobian`. They are called for numbers of rows that are multiples of `LANES`
        if that of the start is.
    start : Tensor of shape (n, d) or Mode
        Where to begin: latents, or the modes of the same rows under other precisions, whose Jacobians are kept and
        whose memory is used.
    data : GaussianData, TailedData or NaturalData
    n_steps : int, default=6
    gain, near : float, in nats
    """
    at = _again(start, data) if isinstance(start, Mode) else _at(start.clone(), differentiate, data)
    n, length = len(at.z), torch.ones_like(at.gain)
    lanes = 1 if n % LANES else LANES
    for _ in range(n_steps):
        moving = at.gain > gain
        far = _nats(at.z - at.origin, at.factor) + at.gain * length.square() > near
        for anew in (True, False):
            rows = (moving & (far == anew)).nonzero().squeeze(1)
            if not len(rows):
                continue
            filled = torch.cat([rows, rows[:1].expand(-len(rows) % lanes)])
            every = len(rows) == n  # as in the first step mostly: nothing to copy
            trial = at.z[filled] + length[filled].unsqueeze(1) * at.step[filled]
            part = data if every else data[filled]
            if anew:
                new = _at(trial, differentiate, part)
            else:
                new = _near(trial, decode, part, at if every else Mode(*(old[filled] for old in at)))
            better = new.log_joint[: len(rows)] > at.log_joint[rows]  # a NaN is not
            length[rows] = torch.where(better, 1.0, 0.5 * length[rows])
            if every and better.all():
                at = new
                continue
            kept = better.nonzero().squeeze(1)
            for name in Mode._fields if anew else MOVES:
                getattr(at, name)[rows[kept]] = getattr(new, name)[kept]
    return at


@lru_cache(maxsize=32)  # drawing them takes as long as a twentieth of one row's score
@float32_by_default()
def normal_draws(n_draws: int, n_components: int, seed: int) -> Tensor:
    """Standard normal draws (K, d), float64, that lie evenly: a scrambled Sobol sequence's quantiles.

    Each by itself is N(0, I), so that the bound is one in expectation, as it is not for draws whose moments were
    matched (Owen, Scrambled net variance for integrals of smooth functions, 1997). Equal calls share one tensor.
    """
    points = torch.quasirandom.SobolEngine(n_components, scramble=True, seed=seed).draw(n_draws, dtype=torch.float64)
    return torch.special.ndtri(points.clamp(EDGE, 1 - EDGE))


def bound(decode: Decode, q: Posterior, data: Data, eps: Tensor) -> Tensor:
    """log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x) (n,) in nats, for z_k = mean + L eps_k.

    All rows share the draws eps (K, d), so that a row's bound depends on no other row.
    """
    n = len(q.mean)
    eps = eps.unsqueeze(1)  # (K, 1, d)
    z = q.rsample(eps)  # (K, n, d)
    log_likelihood = data.log_likelihood(decode(z.flatten(0, 1)).unflatten(0, (len(eps), n)))
    terms = log_likelihood + q.log_prior_ratio(z, eps)
    return terms.logsumexp(0) - math.log(len(eps))


def local_mode(
    module: Any,
    u: Tensor,
    variance: Tensor | None,
    start: Mode | None = None,
    span: Span | None = None,
    **options: Any,
) -> tuple[Mode, Data]:
    """The modes of log p(x, z) for rows u, from the encoder's means, and the data.

    Rows are computed in double precision, the networks in the precision of their weights.

    Parameters
    ----------
    module : VAEModule
        With a Gaussian likelihood, whose decoder gives the mean of u, or one that `is_natural`.
    u : Tensor of shape (n, p) or (n, 2, p), float64
    variance : Tensor of shape (p,), float64, or None
        Of the Gaussian noise, in units of u.
    start : Mode or None, default=None
        The same rows' modes under another variance, to begin there and not at the encoder's means.
    span : Span or None, default=None
        Of the decoder's last layer under the precisions 1 / variance, if all is to be seen through it; without errors.
    **options : dict
        Of `gauss_newton`.
    """
    decoder = module.decoder if span is None else span.decoder
    values, errors = values_and_errors(u)
    data: Data
    if span is not None:
        data = data_in_span(values, span)
    elif variance is None:
        data = NaturalData(module.likelihood, values, None if errors is None else ~errors.isinf())
    elif module.likelihood.has_tails:
        c = module.likelihood.squared_scale(variance).expand_as(values)
        nu = module.likelihood.degrees_of_freedom.detach().double()
        data = TailedData(values, c.detach() if errors is None else c.detach() + errors, nu)
    else:
        data = GaussianData(values, 1 / variance if errors is None else 1 / (variance + errors))
    decode, differentiate = partial(decoder_values, decoder), partial(decoder_jacobian, decoder)
    if start is not None:
        return gauss_newton(decode, differentiate, start, data, **options), data
    raw = decoder_values(module.encoder, module.likelihood.inputs(module.linear_values(u)))
    z = module.posterior(raw, module.n_components).mean
    if isinstance(data, NaturalData):
        z = best_start(decode, z, data)
    return gauss_newton(decode, differentiate, z, data, **options), data


def best_start(decode: Decode, z: Tensor, data: NaturalData) -> Tensor:
    """Of z and `N_TRIED` points that all rows share, the one at which log p(x, z) is greatest, for each row (n, d).

    A nonlinear decoder may have several modes, also far out, where rows are unlike those of the training.
    """
    reach = torch.tensor(REACH, dtype=torch.float64).repeat(N_TRIED // len(REACH)).unsqueeze(1)
    tried = (reach * normal_draws(N_TRIED, z.shape[1], 0)).to(z)
    there = data.height_of_each(decode(tried)) - 0.5 * tried.square().sum(1)  # (n, K)
    here = data.height(decode(z)) - 0.5 * z.square().sum(1)
    most, place = there.max(1)
    return torch.where((most > here).unsqueeze(1), tried[place], z)


def expected_squares(mode: Mode, x: Tensor) -> Tensor:
    """E[(x - f(z))^2 | x] (n, p) under the Laplace posterior, the decoder taken as linear within it."""
    return (x - mode.values).square_().add_(mode_variance(mode))


def mode_variance(mode: Mode) -> Tensor:
    """diag(J P^-1 J^T) (n, p): the variance of f(z) under the Laplace posterior, the decoder taken as linear."""
    inverse = inverse_of(mode.factor).to(mode.jacobian.dtype)
    parts = mode.jacobian.split(COLUMNS, dim=-1)  # J is large, and so are its copies
    return torch.cat([(inverse @ aligned(part)).square_().sum(1)[:, : part.shape[-1]] for part in parts], dim=-1)
