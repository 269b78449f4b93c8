"""What the components carry: the fitted attributes, as functions of the module and of training rows."""

import copy

import numpy as np
import torch

from .._data.groups import numbered, share_of_group
from .._data.rows import Rows, evenly_spread, in_all_columns
from .._data.weights import bessel_factor, effective_n_rows
from .._linear.leverage import leverages
from .control_limits import ScoreStatistics
from .predictor import Predictor, check_finite, squared_residuals

# Training rows, evenly spread, that these rest on at most:
ROWS = 8192  # statistics
ROWS_EXPLAINED = 2048  # explained variance
ROWS_DIFFERENTIATED = 512  # slopes along each component
ROWS_AVERAGED, N_AVERAGED = 128, 16  # averages over components, and over how many draws of them


def fitted_attributes(module, selection, columns=None):
    """The estimator's attributes that weights, and the history of the net that was selected, give.

    `columns` (p,) tells which columns of X the module knows; None stands for all.
    """
    history = list(selection.history)
    return {
        "noise_variance_": noise_variance(module, columns),
        "history_": history,
        "n_iter_": len(history) - 1,
        "best_iter_": selection.best_epoch_,
    }


def noise_variance(module, columns=None):
    """Noise variance in X's units squared: (p,), or a float where it is one for all, or None if not constant.

    It is NaN where `columns` (p,) has it that the module does not know a column.
    """
    variance = copy.deepcopy(module.likelihood).double().constant_variance()
    if variance is None:
        return None
    variance = check_finite((variance.detach() * module.scale**2).cpu().numpy())
    is_per_feature = module.likelihood.linear_noise == "feature" or module.likelihood.has_channel_noise
    if not is_per_feature:
        return float(variance.mean())
    return in_all_columns(torch.from_numpy(variance), columns).numpy()


def evenly_spread_rows(n_rows, weight, *arrays):
    """Of each array at most n_rows of the rows, the same ones, evenly spread; and their weights, of sum 1.

    None stays None, and `Rows` become such of ndarrays.
    """
    rows = evenly_spread(len(arrays[0]), n_rows)
    weight = np.ones(len(rows)) if weight is None else weight[rows]
    return *(some_of(array, rows) for array in arrays), weight / weight.sum()


def some_of(array, rows):
    if isinstance(array, Rows):
        return Rows(array.array(rows), errors=some_of(array.errors, rows))
    return None if array is None else array[rows]


@np.errstate(over="ignore", invalid="ignore")  # said at the end
def component_attributes(module, data, mean, arrange, optimism=None, fewer=1, statistics=None):
    """The estimator's attributes that tell what components carry, read from rows of X.

    Parameters
    ----------
    module : VAEModule
        Its `order` and `sign` are set, if `arrange`.
    data : FitData
        n rows of p columns.
    mean : ndarray of shape (p,)
        Of the columns.
    arrange : bool
        Whether to sort the components by what they carry, and to choose their signs.
    optimism : float or None, default=None
        How much greater Q is where the module was not trained; see `optimism`. None: by the leverages of the rows.
    fewer : int, default=1
        By what to divide the numbers of rows that are looked at.
    statistics : ScoreStatistics or None
        Of rows of earlier passes.

    Returns
    -------
    attributes : dict

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    X, weight = data.rows, data.weight
    rows, w = evenly_spread_rows(ROWS // fewer, weight, X)
    predictor = Predictor(module, X.dtype)
    Z, kl = predictor.transform(rows), w @ predictor.kl_of_components(rows)
    variance = w @ (Z - w @ Z) ** 2
    components, squared_length = predictor.mean_jacobian(*evenly_spread_rows(ROWS_DIFFERENTIATED // fewer, w, Z))
    if arrange:
        order, sign = arrangement(module, components, variance * squared_length)
        Z, kl, variance = Z[:, order] * sign.astype(Z.dtype), kl[order], variance[order]
        components = sign[:, None] * components[order]
    reconstruction, shares, values = predictor.inverse_transform(Z), predictor.value_shares(rows, Z), rows.X
    if shares is not None:
        values = np.nan_to_num(values)
    explained = evenly_spread_rows(ROWS_EXPLAINED // fewer, w, values, shares, Z, reconstruction)
    means = {"mean": mean, "variance": variance, "slopes": components, "n_averaged": ROWS_AVERAGED // fewer}
    gains, total_variance = variance_gains(predictor, *explained, **means)
    n = n_independent = effective_n_rows(len(X), weight)
    w_independent, groups = w, None
    if data.groups is not None:  # the rows of a group say one thing of the limits
        share, places = share_of_group(data.groups), evenly_spread(len(X), ROWS // fewer)
        n_independent, groups = share.sum(), numbered(data.groups[places])
        w_independent = w * share[places]
        w_independent = w_independent / w_independent.sum()
    if optimism is None:
        optimism = leave_one_out_optimism(Z, w, n, groups)
    tensors = (None if array is None else torch.from_numpy(array) for array in (values, reconstruction, shares))
    q = optimism * squared_residuals(*tensors).numpy()
    unit = (float(q.max()) or 1.0) if statistics is None else statistics.unit
    scores = Z if shares is None else predictor.comparable_scores(rows)
    ours = ScoreStatistics(scores, q, w_independent, n_independent, unit)
    statistics = ours if statistics is None else statistics + ours
    attributes = {
        "components_": components.astype(X.dtype),
        "explained_variance_ratio_": gains,
        "explained_variance_": gains * total_variance * bessel_factor(n),
        "kl_per_component_": kl,
    }
    for numbers in (*attributes.values(), *statistics.sums):
        check_finite(np.asarray(numbers))
    return {**attributes, "n_active_components_": int(statistics.active.sum()), "_score_statistics": statistics}


def arrangement(module, components, carried):
    """Sort the module's components by `carried` (d,), unless their order is part of the posterior, and fix signs.

    A component's largest loading is positive, as `svd_flip` has it for PCA.
    """
    order = np.arange(len(carried)) if module.posterior.order_matters else np.argsort(-carried, kind="stable")
    components = components[order]
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1, keepdims=True), axis=1)
    sign = np.where(largest < 0, -1.0, 1.0).ravel()
    module.order.copy_(module.order[order])
    module.sign.copy_(module.sign[order] * module.sign.new_tensor(sign))
    return order, sign


def optimism(module, training, validation, n_rows=1024):
    """How many times greater Q (its geometric mean) is in validation rows than in training rows; at least 1.

    Both are `Rows` with what each row counts for.
    """
    X = training[0]
    predictor, means = Predictor(module, X.dtype), []
    for part in (training, validation):
        rows, share = evenly_spread_rows(n_rows, part[1], part[0])
        q = predictor.squared_residuals(rows)
        means.append(np.exp(share @ np.log(np.maximum(q, max(1e-9 * q.mean(), rounding(module, X))))))
    return max(1.0, means[1] / means[0])


def leave_one_out_optimism(Z, w, n_rows, groups):
    """`optimism` of a linear model of so many rows, by the leverages of some with scores Z and weights w of sum 1."""
    weight, groups = torch.from_numpy(w), None if groups is None else torch.from_numpy(groups)
    h = leverages(torch.from_numpy(Z).double(), n_rows * weight, groups)
    return float(torch.exp(-2 * (weight @ torch.log1p(-h))))


def variance_gains(predictor, X, share, Z, reconstruction, w, mean, variance, slopes, n_averaged):
    """Share of X's variance that the reconstruction gains by each component, and that variance.

    The reconstruction from the first k components is E[x | z_1 ... z_k], the mean over the others, whose `variance`
    (d,) is given: at 0, which few rows are near, a curved model is far from the mean of X. (Sobol, Sensitivity
    estimates for nonlinear mathematical models, 1993.) A value counts in its `share` (n, p); None: all are 1.
    As this takes many passes, `n_averaged` rows tell how much more
    or less is left than by the linear model with these `slopes` (d, p), and all rows what that leaves.
    """
    d = Z.shape[1]
    few, few_share, few_Z, few_w = evenly_spread_rows(n_averaged, w, X, share, Z)
    others = predictor.noise(N_AVERAGED, 0, matched=True).cpu().numpy() * np.sqrt(variance)
    centre = w @ reconstruction - w @ Z @ slopes
    left, of_all, of_few = [mean_square(X - mean, w, share)], X - centre, few - centre
    for k in range(1, d):
        latents = np.where(np.arange(d) < k, few_Z[:, None], others).astype(Z.dtype)  # (n, draws, d)
        expected = predictor.mean_inverse_transform(latents)
        of_all -= np.outer(Z[:, k - 1], slopes[k - 1])
        of_few -= np.outer(few_Z[:, k - 1], slopes[k - 1])
        curved = mean_square(few - expected, few_w, few_share) - mean_square(of_few, few_w, few_share)
        left.append(mean_square(of_all, w, share) + curved)
    left.append(mean_square(X - reconstruction, w, share))
    gains = -np.diff(left)
    varies = left[0] > rounding(predictor.trained, X)
    return gains / left[0] if varies else 0 * gains, left[0]


def rounding(module, X):
    """Squared distance that is none, in the precision of X."""
    return float(np.finfo(X.dtype).eps) ** 2 * float((module.scale**2).sum())


def mean_square(residual, w, share=None):
    """Sum over the features of the mean square of the values (n, p), which count in their `share` (n, p)."""
    squares = residual.astype(np.float64) ** 2
    total = w @ (np.ones_like(squares) if share is None else share)
    return np.sum(w @ (squares if share is None else share * squares) / np.where(total > 0, total, 1))
