r"""A noise variance per channel, fitted to means that stay as they are.

The decoder f was trained under isotropic noise, as PCA has it. Given f, the variances v maximise the
likelihood by EM under the Laplace posterior N(z_i, C_i) of `gauss_newton`:

    v_j <- mean_i E[(x_ij - f_j(z))^2 | x_i] = mean_i [ (x_ij - f_j(z_i))^2 + (J_i C_i J_i^T)_jj ]

over the rows in which j was measured. This is factor analysis's step where f is linear (Rubin and Thayer, 1982). Where
values have errors of their own, with precisions w_ij = 1 / (v_j + s_ij^2), a step of Fisher's scoring takes its place
(`squares_without_errors`). The rows that f was trained on give EM's v_j. A channel that is quiet in these rows may be
loud in others, as is the rule where values have heavy tails, and one noise for all channels then has the higher
likelihood. So v_j is shrunk towards the isotropic noise o,

    t_j = o_j (v_j / o_j)^(1 - a) mean_k (v_k / o_k)^a,

which keeps the mean of squares over variances. The share a is the one that does best for blocks of rows that are left
out of v in turn: 0 as a rule for spectra, 1/8 to 3/8 for tables of few rows.

This t_j is the shape of the noise. But f is nearer to these rows than to new ones, by a factor c. It is estimated from
rows that f was not trained on: with q_i = mean_j E[(x_ij - f_j(z))^2 | x_i] / t_j of such a row,

    v_j = (nu_0 c t_j + nu s_j) / (nu_0 + nu),   s_j = the channel's own mean over these rows, scaled to the mean c t_j,

is the estimate under a scaled inverse chi^2 prior about c t_j (Gelman et al., Bayesian data analysis, 2013, section
2.6). The residuals of channels are correlated, those of rows have heavy tails, and neighbouring rows are alike, so that
n rows say as much of c as nu degrees of freedom, nu = 2 n mean(q)^2 / var(q) (Satterthwaite, 1946). They are those of
the rows or of the means of the blocks in which the rows were held out, whichever are fewer; for one channel, n at most.
The factor c is mean(q) shrunk towards median(q) in logarithms, as `PRIOR_FACTOR` further degrees of freedom would do:
one block out of four can double the mean. c is at least 1.

Without rows that f was not trained on, c is what leaving a row out does to a linear model: residuals grow by
1 / (1 - h_i), h_i the row's leverage (Belsley, Kuh and Welsch, Regression diagnostics, 1980, chapter 2).
"""

import math

import torch

from .._data.rows import evenly_spread, values_and_errors, with_nan
from .._linear.leverage import leverages, sums_of_groups
from .._model.laplace import expected_squares, local_mode
from .parts import Part

LEAST_NOISE = 1e-3  # a channel's, as a share of the isotropic noise or of its own variance, whichever is less
CONSTANT_STD = 1e-6  # of a channel that counts as constant, as a share of the channels' root mean square
PRIOR_FACTOR = 5.0  # degrees of freedom that the median stands for
PRIOR_SHAPE = 30.0  # degrees of freedom that the shape t stands for
SHARES_OF_ISOTROPIC = tuple(i / 8 for i in range(9))  # values of a
N_BLOCKS = 4  # of rows, which are left out in turn and show how alike neighbours are
MOST_ROWS = 1024  # that are looked at
N_ITERATIONS = 8  # of EM
FIRST_STEPS, FURTHER_STEPS = 6, 2  # of the modes: an iteration goes on where the last one ended
MOST_REMEMBERED = 2048  # rows that the variances of earlier passes count for


def fit_channel_noise(module, selection, training, validation):
    """Give a trained module its noise variances.

    Parameters
    ----------
    module : VAEModule
    selection : VAEModule
        The one that was trained without the validation rows: `module` itself, or what its refit went on from.
    training : Part
        Rows that `selection` was trained on.
    validation : Part or None
        Rows that `selection` was not trained on, in the order of their blocks.
    """
    training = subsample(training)
    variance, squares, mode = training_noise(selection, training)
    constant = is_constant(selection, sample_variance(training.u))
    shape = variance.clone()
    squares, weight = squares_without_errors(selection.likelihood, squares, variance, training)
    squares, weight = without_channels(constant, squares, weight)
    part, isotropic = Part(squares, weight, training.groups), isotropic_noise(selection)[~constant]
    shape[~constant] = shrunk_to_isotropic(variance[~constant], squares, part, isotropic)
    if validation is None:
        ratio = torch.where(constant, 1.0, leave_one_out_factor(selection.likelihood, shape, mode, training))
    else:
        ratio = calibration(selection, shape, most_informative_rows(subsample(validation), shape), constant)
    module.likelihood.set_channel_variance(ratio * shape, len(training))
    if module.likelihood.has_tails:
        module.likelihood.set_degrees_of_freedom(selection.likelihood.degrees_of_freedom.item())


def start_channel_noise(module, scatter, n):
    """`fit_channel_noise` at the linear start of n rows whose covariance, a `Scatter`, is all that is known.

    The expected squares then follow from the covariance, and each row is taken to have the mean leverage.
    """
    own, isotropic = scatter.diagonal(), isotropic_noise(module).cpu()
    loadings, eye = module.decoder.start_weight.cpu().double(), torch.eye(module.n_components, dtype=torch.float64)
    constant, least, variance = is_constant(module, own), least_noise(module, own), isotropic
    for _ in range(N_ITERATIONS):
        covariance = torch.linalg.inv(eye + loadings.T @ (loadings / variance[:, None]))  # of z given u
        projection = covariance @ (loadings / variance[:, None]).T  # (d, p), E[z | u] = projection @ u
        cross = scatter @ projection.T  # (p, d)
        second_moment = covariance + projection @ cross
        squares = own - 2 * (loadings * cross).sum(1) + (loadings @ second_moment * loadings).sum(1)
        variance = torch.fmax(squares, least)
    leverage = min((module.n_components + 1) / n, 0.9)
    module.likelihood.set_channel_variance(torch.where(constant, variance, variance / (1 - leverage) ** 2), n)


def updated_channel_noise(module, training):
    """The noise variances, and how many rows they rest on, with the expected squares of further rows merged.

    The module was not trained on these rows yet.
    """
    part, likelihood = subsample(training), module.likelihood
    before = likelihood.channel_variance.double()
    n, n_before = len(part), min(likelihood.n_channel_rows, MOST_REMEMBERED)
    squares, _ = squares_of_rows(module, part.u, before)
    here = row_mean(*squares_without_errors(likelihood, squares, before, part))
    variance = torch.where(here.isnan(), before, (n_before * before + n * here) / (n_before + n))
    return torch.maximum(variance, LEAST_NOISE * isotropic_noise(module)), n_before + n


def subsample(part):
    """At most `MOST_ROWS` of the rows, evenly spread, in double precision."""
    places = torch.from_numpy(evenly_spread(len(part), MOST_ROWS)).to(part.u.device)
    rows = part.u[places if isinstance(part.u, torch.Tensor) else places.cpu().numpy()]
    weight, groups = part.weight, part.groups
    if groups is not None:
        groups = groups[places].unique(return_inverse=True)[1]
    return Part(rows.double(), None if weight is None else weight[places].double(), groups)


def isotropic_noise(module):
    """The noise variance (p,) under which the module was trained, in units of u."""
    return module.likelihood.log_variance().detach().double().exp()


def row_mean(squares, weight):
    """Mean (p,) of each channel's squares (n, p), with the weights of `squares_without_errors`; NaN without any."""
    if weight is None:
        return squares.nanmean(0)
    if weight.ndim == 2:
        return (weight * squares).nansum(0) / weight.sum(0)
    measured = ~squares.isnan()
    return (weight @ squares.nan_to_num()) / (weight @ measured.double())


def squares_without_errors(likelihood, squares, variance, part):
    """Squares (n, p) of rows as they would be without the values' errors, and their weights.

    The weights are those of the rows (n,) or, where values have errors, (n, p): w_ij v_j, the information in a square.
    The weighted mean is a step of Fisher's scoring, v + sum(w^2 (q - 1 / w)) / sum(w^2).
    """
    errors = values_and_errors(part.u)[1]
    if likelihood.has_tails:
        squares = likelihood.without_tails(squares, variance, errors)
    if errors is None:
        return squares, part.weight
    share = variance / (variance + errors)
    weight = share if part.weight is None else share * part.weight.unsqueeze(1)
    total = weight.sum(0).clamp(min=torch.finfo(weight.dtype).tiny)
    information = (weight * share).sum(0) / total  # 1 for exact values
    return variance + (share * squares - variance) / information.clamp(min=LEAST_NOISE), weight


def most_informative_rows(part, variance):
    """The half of the rows whose errors are least beside these variances (p,); all rows where none has an error."""
    errors = values_and_errors(part.u)[1]
    if errors is None:
        return part
    share = variance / (variance + errors)
    information = share.sum(1) / (share > 0).sum(1).clamp(min=1)
    kept = (information >= information.median()).nonzero().squeeze(1)
    weight, groups = (None if field is None else field[kept] for field in (part.weight, part.groups))
    return Part(part.u[kept], weight, None if groups is None else groups.unique(return_inverse=True)[1])


def without_channels(channels, squares, weight):
    """Squares (n, p) and their weights, without the channels of a mask (p,)."""
    return squares[:, ~channels], weight if weight is None or weight.ndim == 1 else weight[:, ~channels]


def channel_mean(squares, weight):
    """Mean (n,) of each row's squares (n, p), with the weights of `squares_without_errors`; NaN without any."""
    if weight is None or weight.ndim == 1:
        return squares.nanmean(1)
    return (weight * squares).nansum(1) / weight.sum(1)


def sample_variance(u):
    """Variance (p,) of each channel's values in the rows u."""
    u = with_nan(u)
    return (u - u.nanmean(0)).square().nanmean(0)


def is_constant(module, own):
    """Whether each channel, of variances `own` (p,), is constant to rounding."""
    own = own / isotropic_noise(module).to(own.device)  # in these units the noise of all channels is equal
    return ~(own > CONSTANT_STD**2 * own.nanmean())


def constant_channels(module, part):
    """Places of the channels that are constant, to rounding, in some of the rows, as a list."""
    return is_constant(module, sample_variance(subsample(part).u)).nonzero().flatten().tolist()


def least_noise(module, own):
    """The least noise variance (p,) of each channel; of a constant channel it is the isotropic noise itself.

    The rows say nothing of such a channel. PCA takes its new values for noise like that of the others, as is done here.
    """
    isotropic = isotropic_noise(module).to(own.device)
    least = LEAST_NOISE * torch.minimum(isotropic, own.nan_to_num(torch.inf))
    return torch.where(is_constant(module, own), isotropic, least)


def squares_of_rows(module, u, variance, start=None):
    """Expected squares (n, p) of rows u under a noise variance, NaN where a value is missing; and the modes."""
    n_steps = FIRST_STEPS if start is None else FURTHER_STEPS
    mode, data = local_mode(module, u, variance, start, n_steps=n_steps)
    errors, squares = values_and_errors(u)[1], expected_squares(mode, data.x)
    return squares if errors is None else squares.masked_fill_(errors.isinf(), torch.nan), mode


def training_noise(module, part):
    """EM's variances (p,) for rows that the module was trained on, and the rows' expected squares (n, p) and modes."""
    least = least_noise(module, sample_variance(part.u))
    variance, mode = isotropic_noise(module), None
    for _ in range(N_ITERATIONS):
        squares, mode = squares_of_rows(module, part.u, variance, mode)
        variance = torch.fmax(row_mean(*squares_without_errors(module.likelihood, squares, variance, part)), least)
        if module.likelihood.has_tails:
            errors = values_and_errors(part.u)[1]
            module.likelihood.fit_degrees_of_freedom(squares, variance, errors, part.weight)
    return variance, squares, mode


def shrunk_to_isotropic(variance, squares, part, isotropic):
    """The variances (p,), means of the squares (n, p) of rows, shrunk towards the isotropic noise: t above.

    The part has the rows' groups, and the weights of `squares_without_errors`.
    """
    weight = (squares.new_ones(len(squares)) if part.weight is None else part.weight).reshape(len(squares), -1)
    block = blocks_of_rows(part)
    sums = squares.new_zeros(N_BLOCKS, squares.shape[1]).index_add_(0, block, weight * squares.nan_to_num())
    counts = torch.zeros_like(sums).index_add_(0, block, weight * ~squares.isnan())
    others = (sums.sum(0) - sums) / (counts.sum(0) - counts)  # (blocks, p), of the rows that are not in the block
    others = torch.maximum(others, LEAST_NOISE * variance)

    def loss(share):
        noise = shrunk(others, isotropic, share)
        return (counts * noise.log() + sums / noise).nansum().item()

    return shrunk(variance, isotropic, min(SHARES_OF_ISOTROPIC, key=loss))


def shrunk(variance, isotropic, share):
    """Variances (..., p) shrunk towards the isotropic noise (p,) by a share; the mean of squares over them stays."""
    relative = variance / isotropic
    return isotropic * relative ** (1 - share) * (relative**share).nanmean(-1, keepdim=True)


def blocks_of_rows(part):
    """The block (n,) of each row: consecutive rows, or consecutive groups, are in one block."""
    place = torch.arange(len(part), device=part.u.device) if part.groups is None else part.groups
    return place * N_BLOCKS // (place.max() + 1)


def calibration(module, shape, part, constant):
    """v / t (p,), from rows that the module was not trained on and the shape t of its noise."""
    variance, mode = shape, None
    for _ in range(3):
        squares, mode = squares_of_rows(module, part.u, variance, mode)
        squares, weight = squares_without_errors(module.likelihood, squares, variance, part)
        relative = squares / shape
        q = channel_mean(*without_channels(constant, relative, weight))  # (n,)
        if part.groups is not None:  # the rows of a group count as one
            measured = ~q.isnan()
            q = sums_of_groups(q.nan_to_num(), part.groups) / sums_of_groups(measured.double(), part.groups)
        q = q[~q.isnan()]
        if not len(q) or not q.mean() > 0:
            return torch.ones_like(shape)
        nu, mean, median = degrees_of_freedom(q), q.mean(), q.median().clamp(min=1e-300)
        factor = torch.exp((nu * mean.log() + PRIOR_FACTOR * median.log()) / (nu + PRIOR_FACTOR)).clamp(min=1)
        own, n_own = row_mean(relative, weight) * (factor / mean), min(nu, len(q))
        ratio = (PRIOR_SHAPE * factor + n_own * own) / (PRIOR_SHAPE + n_own)
        ratio = torch.where(constant | ratio.isnan(), 1.0, ratio)
        variance = ratio * shape
    return ratio


def degrees_of_freedom(q):
    """Degrees of freedom of the mean of q (n,), or of the means of its blocks if these say less."""
    parts = [q]
    if len(q) >= 2 * N_BLOCKS:
        parts.append(torch.stack([block.mean() for block in q.tensor_split(N_BLOCKS)]))
    found = [(2 * len(part) * part.mean() ** 2 / part.var()).item() for part in parts if len(part) > 1]
    return max(1.0, min([nu for nu in found if math.isfinite(nu)], default=1.0))


def leave_one_out_factor(likelihood, shape, mode, part):
    """The factor by which squares grow where a row, with its copies, is left out of a linear model on these z."""
    squares, weight = squares_without_errors(likelihood, (with_nan(part.u) - mode.values).square(), shape, part)
    q = channel_mean(squares / shape, weight)
    if part.weight is not None:
        q = part.weight * q
    total = q.sum()
    h = leverages(mode.z, part.weight, part.groups)
    return (q / (1 - h).square()).sum() / total if total > 0 else torch.ones_like(total)
