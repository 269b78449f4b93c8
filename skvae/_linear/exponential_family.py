r"""The linear model of an exponential family in its natural parameter: PCA for counts, for binary and for grey values.

    z ~ N(0, I),   log p(x_j | z) = x_j r_j - A(r_j) + h(x_j),   r = W z + m

It is the generalised linear latent variable model (Moustaki and Knott, Generalized latent trait models, 2000); with
a Poisson likelihood, the Poisson log-normal model (Chiquet, Mariadassou and Robin, Variational inference for
probabilistic Poisson PCA, 2018). Its optimum has no closed form. Monte Carlo EM (Wei and Tanner, 1990) comes near to
it: z given x is drawn from Laplace's approximation, in pairs that lie opposite about the mode, and a Newton step
regresses each feature on the draws. The mean and the covariance of z are parameters of the iteration, which m and W
then absorb (PX-EM: Liu, Rubin and Wu, 1998).

W and m have normal priors of variance unit^2 / RIDGE, about 0 and about the column means. `unit` is the size of a
change in r that matters. Without these priors, the loadings of a feature that is nearly always 0 have no bound.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from .._data.rows import blocks, evenly_spread, rows_per_block, values_and_errors
from .._data.weights import effective_n_rows
from .._model.laplace import NaturalData, gauss_newton
from .start import LinearStart, rotated
from .value_precisions import regular

RIDGE = 10.0
N_ITERATIONS = 10
FIRST_STEPS, FURTHER_STEPS = 10, 3  # to the modes, in the first iteration and in the others, which go on from there
LEAST_ROWS, MOST_ROWS = 256, 2048  # that the start rests on
MOST_VALUES = 2**21  # in these rows
MOST_PRODUCTS = 2**30  # of their values with pairs of components, in an iteration
LEAST_NOISE = 1e-4  # variance of an input of the encoder given z, as a share of the input's variance
SINGLE_VALUE_STD = 3.0  # in units: of the prior under which the natural parameter of each value is found by itself
MOST_HALVINGS = 8  # of a Newton step, until the likelihood rises


def exponential_family_start(module, u, weight=None):
    """The linear model of rows, and the linear encoder that is nearest to its posterior.

    The encoder's inputs are taken to be normal given z, as in factor analysis, which does not need more rows than
    features.

    Parameters
    ----------
    module : VAEModule
        Its likelihood `is_natural`.
    u : Tensor of shape (n, p) or (n, 2, p), or StreamedRows
        Rows (n, 2, p) have the errors of their values, infinite where a value is missing. At most `most_rows` are used.
    weight : Tensor of shape (n,) or None, default=None

    Returns
    -------
    LinearStart
    """
    rows = evenly_spread(len(u), most_rows(u.shape[-1], module.n_components))
    values, errors = values_and_errors(u[rows].double())
    weight = torch.ones_like(values[:, 0]) if weight is None else weight[rows].to(values)
    measured = None if errors is None else ~errors.isinf()
    x = values if measured is None else torch.where(measured, values, module.fill_mean.double())
    model = LinearModel.of(module.likelihood, x, weight, measured, module.n_components)
    return with_encoder(model, module.likelihood.inputs(x), module.posterior)


def most_rows(n_features, n_components=0):
    """The number of rows that the start rests on, at most."""
    n = min(MOST_VALUES // n_features, MOST_PRODUCTS // (n_features * (n_components + 1) ** 2))
    return min(max(n, LEAST_ROWS), MOST_ROWS)


@dataclass
class LinearModel:
    """The parameters of the linear model, and the posterior of the rows' z under them."""

    loadings: torch.Tensor  # (p, d), W
    offset: torch.Tensor  # (p,), m
    z: torch.Tensor  # (n, d), modes
    weight: torch.Tensor  # (n,), the rows' weights of sum 1
    spread: torch.Tensor  # (d, d), mean covariance of z given x

    @classmethod
    def of(cls, likelihood, x, weight, measured, n_components):
        """The model of rows x (n, p) of these weights (n,), by Monte Carlo EM."""
        n, weight = effective_n_rows(len(x), weight), weight / weight.sum()
        centre, unit = (part.to(x) for part in likelihood.init_without_linear_model())
        data = NaturalData(likelihood, x, measured)
        model = cls.at_single_values(data, weight, centre, unit, n_components)
        generator = torch.Generator().manual_seed(0)
        for i in range(N_ITERATIONS):
            draws = model.draws(data, FIRST_STEPS if i == 0 else FURTHER_STEPS, generator)
            model.regress(data, n, draws, centre, unit)
            model.absorb()
        model.draws(data, FURTHER_STEPS, generator)
        return model

    @classmethod
    def at_single_values(cls, data, weight, centre, unit, d):
        """PCA of the values' natural parameters, each found by itself under a prior about the column mean."""
        r = natural_parameters(data, centre, SINGLE_VALUE_STD * unit)
        offset = weight @ r
        root = weight.sqrt().unsqueeze(1)
        left, size, right = torch.linalg.svd(root * (r - offset), full_matrices=False)
        lacking = (0, max(d - len(size), 0))
        loadings = pad((right.T * size)[:, :d], lacking)
        z = pad((left / root)[:, :d], lacking)
        return cls(loadings, offset, z, weight, torch.zeros(d, d, dtype=z.dtype, device=z.device))

    def decode(self, z):
        return torch.addmm(self.offset, z, self.loadings.T)

    def differentiate(self, z):
        return self.decode(z), self.loadings.T.repeat(len(z), 1, 1)

    def draws(self, data, n_steps, generator):
        """Two draws (2, n, d) of each row's z, opposite about its mode. This updates the modes and `spread`."""
        noise = torch.randn(self.z.shape, generator=generator, dtype=torch.float64).to(self.z)
        pairs, self.spread = [], torch.zeros_like(self.spread)
        for block in blocks(len(self.z), rows_per_block(self.loadings.numel(), self.z.device)):
            mode = gauss_newton(self.decode, self.differentiate, self.z[block], data[block], n_steps)
            self.z[block] = mode.z
            posterior = mode.posterior()
            roots = (self.weight[block, None, None].sqrt() * posterior.inverse).flatten(0, 1)  # P^-1 = F^-T F^-1
            self.spread = self.spread + roots.T @ roots
            away = posterior.scale(noise[block])
            pairs.append(torch.stack([mode.z + away, mode.z - away]))
        return torch.cat(pairs, dim=1)

    def regress(self, data, n, draws, centre, unit):
        """One Newton step of each feature's loadings and offset, halved until the likelihood of n rows rises."""
        likelihood = data.likelihood
        z = torch.cat([draws, torch.ones_like(draws[..., :1])], dim=-1).flatten(0, 1)  # (2n, d + 1)
        x = data.x.repeat(2, 1)
        weight = 0.5 * n * self.weight.repeat(2).unsqueeze(1)
        if data.measured is not None:
            weight = weight * data.measured.repeat(2, 1)
        ridge = (RIDGE / unit.square()).unsqueeze(1)
        middle = torch.cat([torch.zeros_like(self.loadings), centre.unsqueeze(1)], dim=1)

        def value(coefficients):  # (p,)
            fit = (weight * likelihood.log_density(z @ coefficients.T, x)).sum(0)
            return fit - 0.5 * (ridge * (coefficients - middle).square()).sum(1)

        old = torch.cat([self.loadings, self.offset.unsqueeze(1)], dim=1)  # (p, d + 1)
        raw = z @ old.T
        slope = (weight * (x - likelihood.mean(raw))).T @ z - ridge * (old - middle)
        pairs = (z.unsqueeze(2) * z.unsqueeze(1)).flatten(1)
        curvature = ((weight * likelihood.variance(raw)).T @ pairs).unflatten(1, old.shape[1:] * 2)
        curvature.diagonal(dim1=1, dim2=2).add_(ridge)
        step, before = torch.linalg.solve(regular(curvature, curvature), slope), value(old)
        new = old + step
        for _ in range(MOST_HALVINGS):
            worse = ~(value(new) >= before)  # also where the value is NaN
            if not worse.any():
                break
            step = torch.where(worse.unsqueeze(1), 0.5 * step, step)
            new = old + step
        else:
            new = torch.where((value(new) >= before).unsqueeze(1), new, old)
        self.loadings, self.offset = new[:, :-1].contiguous(), new[:, -1].contiguous()

    def absorb(self):
        """Standardise z to mean 0 and covariance I; offset and loadings absorb the mean and covariance that it had."""
        mean = self.weight @ self.z
        apart = self.z - mean
        root = torch.linalg.cholesky(self.spread + apart.T @ (self.weight.unsqueeze(1) * apart))
        self.offset = self.offset + self.loadings @ mean
        self.loadings = self.loadings @ root
        self.z = torch.linalg.solve_triangular(root, apart.T, upper=False).T.contiguous()


def natural_parameters(data, centre, std, n_halvings=40):
    """argmax over r of log p(x | r) - (r - centre)^2 / (2 std^2) for each value (n, p), by bisection."""
    low, high = (torch.zeros_like(data.x) + centre + sign * 40 * std for sign in (-1, 1))
    for _ in range(n_halvings):
        middle = (low + high) / 2
        score = data.x - data.likelihood.mean(middle)
        if data.measured is not None:
            score = score * data.measured
        rises = score > (middle - centre) / std.square()
        low, high = torch.where(rises, middle, low), torch.where(rises, high, middle)
    return middle


def with_encoder(model, inputs, posterior):
    """The `LinearStart` of a model whose encoder sees `inputs` (n, p)."""
    mean = model.weight @ inputs
    apart = inputs - mean
    loadings = apart.T @ (model.weight.unsqueeze(1) * model.z)  # of the inputs, as z has covariance I
    variance = model.weight @ apart.square()
    noise = (variance - loadings.square().sum(1)).clamp(min=LEAST_NOISE * variance.clamp(min=LEAST_NOISE))
    rotation, encoder_weight, std, raw = rotated(loadings, noise, posterior, torch.ones_like(noise))
    return LinearStart(
        model.loadings @ rotation, model.offset, None, None, encoder_weight, -(encoder_weight @ mean), std, raw
    )
