"""How an estimator is fitted: rows and weights in, a trained net and what it says of them held."""

import copy
import warnings
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import validate_data

from ._arrays import array_of, one_table
from ._callbacks import FitTask
from ._checkpoint import Checkpoint, identity
from ._diagnostics import DiagnosticVAE
from ._fitted import Floats
from ._inspection import component_attributes, fitted_attributes, optimism
from ._monitoring import ACTIVE
from ._parameters import check_sample_weight, validates_parameters
from ._processes import writes
from ._rows import Rows, has_gaps, without_values
from ._sklearn import CallbackSupportMixin
from ._training import draw_seed, fit_net, pass_once, refits

Self = TypeVar("Self", bound="FittingVAE")  # typing has its own from Python 3.11 on


class FittingVAE(CallbackSupportMixin, DiagnosticVAE):
    """The methods of `VAETransformer` that train."""

    @validates_parameters
    def fit(self: Self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two rows. Needs no scaling. NaN, None, NA or a masked value is for what was not measured: the
            likelihood is that of the measured values. Frames and torch tensors are taken as their values, float32 and
            float64 as they are, all else as float64. A floating array mapped from a file (`np.memmap`) whose size
            exceeds scikit-learn's `working_memory` (1 GiB) is streamed; of any other, one float32 copy is made. A dask
            array, and a list or an iterator of tables, becomes such a file, a temporary one, block by block.
            Means and standard deviations of the columns may be as large as 1e100 (1e36 in float32). A column that
            varies by less than 1e-100 (1e-36), or than rounding, counts as constant.
        y : ignored
            Scikit-learn's callbacks get it.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            A row of weight 2 counts as the row twice: exactly in the scaling and in the linear start, as a factor of
            the row's loss in training. A row of weight 0, or of less than rounding beside the greatest, counts as none,
            as does one without a measured value. A factor that makes weights less than one in the mean means nothing.

        Returns
        -------
        self : VAETransformer
            The estimator.

        Raises
        ------
        ValueError
            If X or a parameter is not as it should be, if numbers exceed the range of X's dtype, or if `checkpoint` is
            another fit's. What was fitted before is left as it was.
        OSError
            If `checkpoint` cannot be written: at the start, or when the disk is full. The one before stays.
        KeyboardInterrupt
            After Ctrl-C: the estimator then holds the best weights so far.

        Warns
        -----
        ConvergenceWarning
            If training diverged: the best weights before that are kept. If posteriors collapsed: components whose
            posterior means hardly vary over the training rows carry nothing of X.
        """
        X = one_table(X)
        previous = self.net_ if self.warm_start and hasattr(self, "net_") else None
        data, weight, gaps = self._training_rows(X, sample_weight, reset=previous is None)
        seed = draw_seed(self)
        checkpoint = None
        if self.checkpoint is not None:
            this = identity(self.get_params(deep=False), data, weight, previous)
            checkpoint = Checkpoint(self.checkpoint, self.checkpoint_every, this, seed, writes(self))
            seed = checkpoint.seed
        task = None
        if hasattr(self, "_skl_callbacks"):
            stages = 1 + refits(self, len(data), previous)
            task = FitTask(self, stages, partial(self._attributes_so_far, X, data, weight, seed), X, y, sample_weight)
        net, selection, held_out = fit_net(self, data, seed, weight, gaps, previous, checkpoint, task)
        self._hold(X, data, weight, net, selection, seed, held_out)
        if task is not None:
            task.end()
        if checkpoint is not None:
            checkpoint.remove()
        inactive = np.flatnonzero(~self._monitor.active)
        if len(inactive):
            warnings.warn(
                f"Posterior collapse in component {', '.join(map(str, inactive))} (of 0 to {self.n_components_ - 1}): "
                f"the variance of its posterior means over the training rows is at most {ACTIVE}, so that it carries "
                "nothing of X. Try fewer n_components, a kl_warmup or free_bits.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    @validates_parameters
    def partial_fit(self: Self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one pass over X, from the present weights, at a constant learning rate.

        The first call takes scaling and linear start from its X (n_samples, n_features), and all parameters; it also
        settles the order and the signs of the components. What attributes say of rows, they say of the last call's;
        `n_active_components_` and the limits of T2 and Q are of the rows of all calls.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As in `fit`; of later calls, at least one row.
        y : ignored
            For scikit-learn's conventions.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            As in `fit`.

        Returns
        -------
        self : VAETransformer
            The estimator.
        """
        X = one_table(X)
        previous = getattr(self, "net_", None)
        first = previous is None
        data, weight, gaps = self._training_rows(X, sample_weight, reset=first, check=first)
        seed = draw_seed(self) if first else self._seed
        net = pass_once(self, data, seed, weight, gaps, previous)
        before = None if first else self._monitor
        self._hold(X, data, weight, net, net, seed, first=first, fewer=8, monitor=before)  # a pass takes little time
        return self

    def _training_rows(
        self, X: ArrayLike, sample_weight: ArrayLike | None, reset: bool, check: bool = True
    ) -> tuple[Rows, Floats | None, bool]:
        """Checked rows, but those of weight 0 or with no measured value; their weights; whether they have NaN."""
        data = self._check(X, training=check, reset=reset)
        weight = check_sample_weight(sample_weight, len(data))
        kept = np.ones(len(data), dtype=bool) if weight is None else weight > 0
        gaps = has_gaps(data)
        if gaps:
            kept &= ~without_values(data)
        if kept.all():
            return data, weight, gaps
        if kept.sum() < 1 + check:
            least = "two are needed" if check else "one is needed"
            raise ValueError(
                f"X has {kept.sum()} rows with a value that is not NaN and a positive sample_weight; {least}."
            )
        rows = data.select(np.flatnonzero(kept))
        weight = None if weight is None else check_sample_weight(weight[kept], len(rows))
        return rows, weight, gaps and has_gaps(rows)

    def _hold(
        self,
        X: ArrayLike,
        data: Rows,
        weight: Floats | None,
        net: Any,
        selection: Any,
        seed: int,
        held_out: NDArray[np.integer] | None = None,
        first: bool = True,
        **options: Any,
    ) -> None:
        """Hold a trained net and what it, the history of the one that was selected and X tell, once all is known.

        An interruption is passed on.
        """
        options["optimism"] = 1.0 if held_out is None else optimism(selection.module_, data, held_out)
        attributes = self._attributes(data, weight, net, selection, seed, first, **options)
        if first:
            validate_data(self, X, reset=True, skip_check_array=True)
            attributes["_fitted_with"] = self.get_params(deep=False)
        self.__dict__.update(attributes)
        if selection.interrupted_:
            raise KeyboardInterrupt("Interrupted: the estimator holds the best weights so far.")

    def _attributes(
        self,
        data: Rows,
        weight: Floats | None,
        net: Any,
        selection: Any,
        seed: int,
        first: bool = True,
        **options: Any,
    ) -> dict[str, Any]:
        """The fitted attributes that a net, the history of the one that was selected and rows give."""
        module = net.module_
        mean = module.likelihood.column_mean.numpy().astype(data.dtype) if first else array_of(self.mean_)
        attributes = {
            "net_": net,
            "_seed": seed,
            "device_": net.device,
            "n_components_": module.n_components,
            "mean_": mean,
            **fitted_attributes(module, selection),
            **component_attributes(module, data, weight, mean, arrange=first, **options),
        }
        arrays = {name: torch.from_numpy(value) for name, value in attributes.items() if isinstance(value, np.ndarray)}
        return {**attributes, **{name: data.like(tensor) for name, tensor in arrays.items()}}

    def _attributes_so_far(
        self, X: ArrayLike, data: Rows, weight: Floats | None, seed: int, net: Any
    ) -> dict[str, Any]:
        """All fitted attributes that the present weights of a net in training give: a copy, as training goes on."""
        there = copy.copy(net)
        there.module_, there.best_epoch_ = copy.deepcopy(net.module_), len(net.history) - 1
        there.module_.eval()
        features = BaseEstimator()
        validate_data(features, X, reset=True, skip_check_array=True)
        attributes = self._attributes(data, weight, there, there, seed)
        return {**vars(features), **attributes, "_fitted_with": self.get_params(deep=False)}
