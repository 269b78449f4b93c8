"""The estimator: its parameters, its attributes, and the methods that validate, delegate and wrap."""

from __future__ import annotations  # so that help() shows the names of types, not what stands behind them

import copy
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal, TypeVar, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_array, check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from ._data.arrays import floating_dtypes, to_library_of, to_numpy, to_tensor
from ._data.errors import check_errors
from ._data.fit_data import FitData
from ._data.groups import check_groups
from ._data.rows import Rows, all_missing, any_measured, has_missing, in_all_columns, is_uneven
from ._data.tables import check_same_labels, column_numbers, to_single_table, to_supported_table, values_and_header
from ._data.weights import check_sample_weight
from ._inference.components import component_attributes, fitted_attributes, optimism
from ._inference.control_limits import ACTIVE, q_limit
from ._inference.predictor import Predictor, check_finite
from ._io.checkpoint import Checkpoint, fit_identity
from ._io.estimator_state import plain_state, restored_attributes, warn_of_other_version, write_estimator
from ._io.version import __version__
from ._linear.moments import Moments
from ._model.build import lookup
from ._parameters import (
    CONSTRAINTS,
    ActivationOption,
    LikelihoodOption,
    NetworkOption,
    ObjectiveOption,
    PosteriorOption,
    Splitter,
    check_parameters,
    fit_parameters,
    frozen,
    frozen_parameters,
    parameters_of,
)
from ._sklearn_compat import (
    CallbackSupportMixin,
    check_same_namespace,
    has_callbacks,
    in_output_container,
    validate_parameter,
    validates_parameters,
)
from ._training.callbacks import FitTask
from ._training.fit import FitResult, draw_seed, fit_model, has_noise_phase, should_refit
from ._training.n_components import with_n_components
from ._training.partial_fit import pass_once, unchanged_on_failure
from ._training.processes import is_main_process
from ._training.report import Report, summary, warn_of_unknown_columns
from ._training.validation import rows_held_out
from .likelihoods import LIKELIHOODS, Likelihood

Floats = NDArray[np.floating]
Self = TypeVar("Self", bound="VAETransformer")  # typing has its own from Python 3.11 on


class VAETransformer(CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""Variational autoencoder that starts at PCA's or factor analysis's optimum and improves on it.

    A row x is described by components z ~ N(0, I). The decoder gives the mean of x, a linear map of z plus a neural
    network, and the likelihood p(x | z) says how x scatters about it. The encoder gives an approximate posterior
    q(z | x), whose mean is a linear map of x plus a neural network. With a Gaussian likelihood the linear maps and the
    noise start at the closed-form optimum of the linear model, and validation rows tell whether training has improved
    on it.

    X is not standardised for the model, as it is not for PCA: where features have different units, scale them before.
    Components have a variance near 1, as those of ``PCA(whiten=True)``.

    Parameters stand in four groups: *basic* (`n_components` to `verbose`), *model* (`posterior` to `init`), *training*
    (`objective` to `checkpoint_every`) and *machine* (`device` to `distributed`).

    Parameters
    ----------
    n_components : int, float, "auto" or None, default=2
        Number of components. A float between 0 and 1, as PCA's: as many as PCA needs for more than this share of X's
        variance. "auto": the number, 64 at most, that gives held-out rows the highest mean log-likelihood under
        probabilistic PCA, whose one decomposition serves all numbers. The held-out rows are X_val or those of a
        splitter in `validation_fraction`; else each row is held out once, in five folds of blocks of rows. Groups are
        never cut, and the 5 % of rows that no number of components describes well are left out of the mean.
        A share and "auto" rest on at most 20,000 training rows, evenly spread, and on those without NaN, of which they
        need five. None: min(n_samples, n_features) - 1.
    likelihood : str or class, default="gaussian"
        Distribution p(x | z). "gaussian": the means are trained under isotropic noise (one variance for all features),
        which keeps PCA's components and reconstruction, and then a noise variance per feature is fitted to them, under
        which `score`, `impute`, `sample` and standard deviations are computed. "gaussian_diag": a noise variance per
        feature in training too, as factor analysis has it, for density alone. "gaussian_isotropic": isotropic noise, as
        probabilistic PCA has it. "gaussian_unit": variance one in X's units. "gaussian_known": no noise but the known
        errors that every method is told as `X_std`. "gaussian_heteroscedastic": a variance per row and feature from the
        decoder, which is at least 0.01 of factor analysis's, as the bound would have no maximum without a floor.
        "student_t": as "gaussian", with heavy tails, for values or rows that lie far out. "bernoulli": binary X.
        "continuous_bernoulli": X in [0, 1]. "poisson": counts; other values are taken with a warning. The last three
        start at their own linear model, found by Monte Carlo EM. Or a subclass of `skvae.likelihoods.Likelihood`. Noise
        variances are at least 1e-6 of the feature's.
    n_importance_samples : int, default=16
        Draws of z per row in `score` and `score_samples`.
    random_state : int, RandomState or None, default=None
        The same int gives the same numbers. torch's global generator is neither used nor changed, unless a network
        of one's own draws from it in training, as Dropout does.
    verbose : int, default=0
        1 shows a progress line, and then the `summary`.
    posterior : {"diag", "rho", "rho_diag", "full"} or class, default="diag"
        Covariance of q(z | x). "diag": diagonal. "rho": s rho^|i-j|, the rho-VAE's AR(1), which has two numbers.
        "rho_diag": AR(1) correlation with a variance per component. "full": any covariance. Or a subclass of
        `skvae.posteriors.Posterior`.
    encoder, decoder : {"mlp", "conv1d", "conv2d"} or callable, default="mlp"
        Networks beside the linear maps: dense layers; convolutions along the features; convolutions over images of
        `input_shape`, each before dense layers (after them, in the decoder). Or a callable (n_in, n_out) that
        returns a new Module from (n, n_in) to (n, n_out).
    input_shape : (channels, height, width) or None, default=None
        Shape of a row that is an image, for "conv2d".
    hidden_layer_sizes : int or sequence of int, default=(128, 128)
        Dense layers of the encoder and of the decoder; an int is one layer. Empty, with "mlp": a linear model.
    activation : {"silu", "relu", "gelu", "elu", "tanh", "logistic", "softplus", "identity"} or callable, default="silu"
        Function between the dense layers. A callable without arguments returns a new Module, as ``torch.nn.Mish`` does.
    init : {"linear", "random"}, default="linear"
        "random": networks alone, without the linear maps and their optimum, as a plain VAE is.
    objective : {"elbo", "iwae", "info"} or callable, default="elbo"
        What training maximises: the evidence lower bound; the importance-weighted one of `n_draws` draws; InfoVAE's.
        Or a subclass of `skvae.objectives.Objective`, or a callable (beta, free_bits) -> Objective, such as
        ``functools.partial(InfoVAE, lambda_=10.0)``. With one draw, "iwae" is a noisier "elbo". `score` does not
        depend on it.
    beta : float, default=1.0
        Weight of the objective's KL term. `score` is always at 1.
    kl_warmup : int, default=0
        Epochs over which that weight rises from 0 to `beta`.
    free_bits : float, default=0.0
        Nats of KL that each component may have at no cost in training.
    n_draws : int, default=1
        Draws of z per row and training step.
    learning_rate_init : float, default=5e-3
        Greatest learning rate. It rises over the first tenth of the steps and falls to 0 along a cosine.
    weight_decay : float or "auto", default="auto"
        Weight decay of AdamW. It pulls the networks to zero, and so the model to its linear start. "auto": 130 /
        n_samples, within [0.1, 3].
    batch_size : int or "auto", default="auto"
        "auto": the power of two next to n_samples / 32, within [16, 256].
    max_iter : int, default=30
        Epochs, over which the learning rate goes through its one cycle. 0 keeps the linear optimum of all rows.
    early_stopping : bool, default=False
        False: training goes through the whole cycle, and its last weights are kept, unless the validation rows' mean
        gain over the start lies more than a standard error under zero. With fewer than eight validation rows (or
        groups) a t test has to be sure of the gain, at 95 %; else the linear start is kept. True: the validation rows
        are scored after each epoch, the best weights are kept, and training stops `n_iter_no_change` epochs after them.
    validation_fraction : float, splitter or None, default=0.1
        Which rows are held out. A share: as up to four blocks of consecutive rows, because neighbours are often alike.
        `groups` are never cut; where `fit` is given none, near-copies, such as repeated scans of one sample, are found
        (in 20 rows or more that are not streamed) and kept together. A scikit-learn splitter, such as
        ``GroupShuffleSplit(1, test_size=0.2, random_state=0)``: the test rows of its first split of X, y and `groups`.
        None: no rows are held out, and the last weights are kept. It is not used where `fit` is given X_val.
    n_iter_no_change : int, default=10
        With `early_stopping`, epochs without a gain of `tol` on the validation rows after which training stops.
    tol : float, default=0.0
        With `early_stopping`, the gain of the validation rows' objective that counts as one, in nats per row.
    refit : bool or "auto", default="auto"
        Whether training goes on with all rows afterwards, for a sixth as many epochs, at 0.4 of the learning rate,
        which falls to 0 again. Where the linear start was kept, that of all rows takes its place. "auto": with fewer
        than 10,000 rows.
    callbacks : list of skorch callbacks or None, default=None
        Subclasses of `skorch.callbacks.Callback`, or skorch's EpochTimer, GradientNormClipping, PrintLog and
        TensorBoard: instances, classes or pairs (name, callback). skorch's others raise, and name what does their work.
        Each phase of a fit, such as the refit, is a training of its own to them; y is None.
    net_params : dict or None, default=None
        Parameters of the `skorch.NeuralNet` that have none of their own here: ``optimizer``, ``optimizer__...`` and
        ``lr``, such as ``{"optimizer": torch.optim.SGD, "lr": 1e-2}``; ``verbose``, ``use_caching`` and
        ``torch_load_kwargs``, which skorch's callbacks read. An optimizer given here comes without the weight decay;
        ``lr_scheduler`` is a function of the share of steps done, or None. Others raise, and name what does their work.
    warm_start : bool, default=False
        Whether `fit` goes on from the fitted weights (and their columns and scaling of X) in place of a new start.
    checkpoint : str, path-like or None, default=None
        A file in which `fit` keeps what it has reached, and which it removes when it is done. If the process is killed
        or stopped by Ctrl-C, the same call of `fit` goes on from there, to the weights of a run without interruption:
        on the CPU, bit for bit. The file knows to which rows and parameters it belongs, so that the fits of a search
        cannot share one. Callbacks start anew. `partial_fit` writes no checkpoint: call `save` between its calls.
    checkpoint_every : int, default=1
        Epochs between two writings of the checkpoint.
    device : str, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    precision : {"float32", "tf32", "bf16"}, default="float32"
        Of the networks' matrix products in training; the linear path and inference stay exact. Its effect on speed and
        score: ``python -m benchmarks.speed.precision``. "tf32" is for CUDA, and holds for the process meanwhile.
        Convolutions on CUDA follow torch's own setting, ``torch.backends.cudnn``, which allows tf32.
    compile : bool, default=False
        Whether torch.compile fuses a step's operations, after 10 to 30 seconds. On a CPU, steps under Gaussian noise
        are as fast without, as their gradients are computed by hand.
    distributed : bool, default=False
        Whether the processes that ``torchrun`` or ``accelerate launch`` started share each batch's rows (extra
        ``distributed``). All call `fit` with the same X, all end with the same model; the steps are those of one
        process with this `batch_size`, to rounding. (A penalty on z, as InfoVAE's, is of each process's rows.) In a
        process that is alone it changes nothing.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Loadings in X's units: d E[x | z] / d z, mean over the training rows (at most 512, evenly spread); of a linear
        model its loadings. Each has its largest entry positive. Components are sorted by the variance of X that they
        bring to first order, Var(z_j) mean |d E[x | z] / d z_j|^2: of a linear model, as PCA's. Those of "rho" and
        "rho_diag" are not, as their order is part of the posterior; its correlations are rho^|i-j| up to the signs.
    explained_variance_, explained_variance_ratio_ : ndarray of shape (n_components,)
        Variance of X, in X's units squared and as a share, that the reconstruction of training rows (at most 2,048)
        gains with each component: by E[x | z_1 ... z_k] over E[x | z_1 ... z_(k-1)]. The shares sum to R2. They need
        not descend: of a nonlinear model, what a component gains hangs on those before it, and differs from what it
        brings to first order, by which components are sorted. Of a linear model both are the same.
    kl_per_component_ : ndarray of shape (n_components,)
        KL(q(z_j | x) || N(0, 1)) in nats, the mean over the training rows: how much each component says of a row.
    n_active_components_ : int
        Components whose posterior means have a variance over 0.01 (Burda et al., 2016, section 5.2).
    mean_ : ndarray of shape (n_features,)
        Mean of the training rows; with "student_t" the centre of a t distribution fitted to each column. NaN for a
        column of which no value was measured in them: the model is without it.
    wavelengths_ : ndarray of shape (n_features,)
        The numbers that label X's columns, such as the floats or integers of a frame, which `feature_names_in_` cannot
        hold. Only where X had such labels.
    noise_variance_ : float, ndarray of shape (n_features,) or None
        In X's units squared, float64. None where the noise is not one number per feature.
    n_components_scores_ : ndarray of shape (n_tried,)
        Of n_components="auto" only: mean nats of held-out rows under linear models of 1, 2, ... components, without the
        5 % of these rows that no number of components describes well.
    n_components_, n_features_in_, n_iter_, best_iter_ : int
        `n_iter_` is the number of epochs run before a refit, `best_iter_` the one whose weights were kept, 0 the start.
    history_ : list of dict
        One entry per epoch, from 0, the start: epoch, train_loss and train_kl (nats per row, means over the epoch), dur
        (seconds) and, at the start, at the end and, with `early_stopping`, after each epoch, valid_score (the objective
        of the validation rows at full `beta` and without `free_bits`; without validation rows, train_score, that of a
        few training rows). A refit's epochs are not in it.
    device_ : str
        Where the model is: "cpu", or a GPU such as "cuda".
    net_ : skorch.NeuralNet
        The trained networks, with their optimizer and history.

    See Also
    --------
    sklearn.decomposition.PCA : The linear model with isotropic noise.
    sklearn.decomposition.FactorAnalysis : The linear model with a noise variance per feature.
    sklearn.cross_decomposition.PLSRegression : Components that predict a target.
    VAESearchCV : A grid search that trains many of these models at a time.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014. Tipping and Bishop, Probabilistic principal
    component analysis, 1999. Ferdowsi et al., rho-VAE, arXiv:1909.06236 (errata: `RhoPosterior`).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skvae import VAETransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> VAETransformer(n_components=3, max_iter=2, random_state=0).fit_transform(X).shape
    (1797, 3)
    """

    _parameter_constraints = CONSTRAINTS

    components_: Floats
    explained_variance_: Floats
    explained_variance_ratio_: Floats
    kl_per_component_: Floats
    n_active_components_: int
    mean_: Floats
    noise_variance_: float | Floats | None
    n_components_: int
    n_features_in_: int
    n_iter_: int
    best_iter_: int
    history_: list[dict[str, Any]]
    device_: str
    net_: Any

    def __init__(
        self,
        n_components: int | float | Literal["auto"] | None = 2,
        *,
        likelihood: LikelihoodOption = "gaussian",
        n_importance_samples: int = 16,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        posterior: PosteriorOption = "diag",
        encoder: NetworkOption = "mlp",
        decoder: NetworkOption = "mlp",
        input_shape: Sequence[int] | None = None,
        hidden_layer_sizes: int | Sequence[int] = (128, 128),
        activation: ActivationOption = "silu",
        init: Literal["linear", "random"] = "linear",
        objective: ObjectiveOption = "elbo",
        beta: float = 1.0,
        kl_warmup: int = 0,
        free_bits: float = 0.0,
        n_draws: int = 1,
        learning_rate_init: float = 5e-3,
        weight_decay: float | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 30,
        early_stopping: bool = False,
        validation_fraction: float | Splitter | None = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 0.0,
        refit: bool | Literal["auto"] = "auto",
        callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        warm_start: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 1,
        device: str = "auto",
        precision: Literal["float32", "tf32", "bf16"] = "float32",
        compile: bool = False,
        distributed: bool = False,
    ) -> None:
        self.n_components = n_components
        self.likelihood = likelihood
        self.n_importance_samples = n_importance_samples
        self.random_state = random_state
        self.verbose = verbose
        self.posterior = posterior
        self.encoder = encoder
        self.decoder = decoder
        self.input_shape = input_shape
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.init = init
        self.objective = objective
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.n_draws = n_draws
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.refit = refit
        self.callbacks = callbacks
        self.net_params = net_params
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.device = device
        self.precision = precision
        self.compile = compile
        self.distributed = distributed

    # Training

    @validates_parameters
    def fit(
        self: Self,
        X: ArrayLike,
        y: object = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
        X_std: ArrayLike | None = None,
        X_val_std: ArrayLike | None = None,
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two rows. They need no scaling. NaN, None, NA or a masked value stands for a value that was not
            measured: the likelihood is that of the measured values. Frames and torch tensors are taken as their values,
            float32 and float64 as they are, everything else as float64. A floating array that is mapped from a file
            (`np.memmap`) and larger than scikit-learn's `working_memory` (1 GiB) is streamed; of any other array, one
            float32 copy is made. A dask array, and a list or an iterator of tables, is written to a temporary file of
            this kind, block by block; the blocks need the same columns in the same order. A polars LazyFrame is
            collected, and a table of pyarrow's becomes a frame of pandas'. Means and standard deviations of the columns
            may be as large as 1e100 (1e36 in float32). A column that varies by less than 1e-100 (1e-36), or by rounding
            only, counts as constant. A column without a measured value is warned of and left out: the model is that of
            the other columns, later values of this one are not used, and NaN stands for it in results and attributes
            that have a value for each column, as in those of scikit-learn's StandardScaler.
        y : ignored
            Scikit-learn's callbacks get it.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            A row of weight 2 counts as two rows: exactly in the scaling and in the linear start (to the Monte Carlo
            error of a start that has one), and as a factor of the row's loss in training. Rows of weight 0, or of a
            weight that is rounding beside the greatest, are left out, as are rows without a measured value. Weights
            whose mean is less than one are taken as relative.
        groups : array-like of shape (n_samples,) or None, default=None
            A label for each row: rows with the same one belong together, as repeated scans of one sample do. No group
            is cut when rows are held out for validation. A group counts as one row there, in the noise per feature
            and in the limits of T2 and Q; in training each row counts. Where it is None, near-copies are looked for.
        X_val : array-like of shape (n_val_samples, n_features) or None, default=None
            Rows to validate on. No rows of X are then held out. In a Pipeline, the steps before transform them where
            it has ``transform_input=["X_val"]``.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, in X's units, which come on top of the model's own noise: a
            value's likelihood is N(x; f(z), v + X_std^2). 0: no error. Infinity: not measured, as NaN in X. A frame has
            the columns of X. Only the Gaussian likelihoods and "student_t" take errors. `mean_`, `noise_variance_` and
            all that follows from them are then those of X without errors.
        X_val_std : array-like of shape (n_val_samples, n_features) or (n_features,), or None, default=None
            The same for X_val.

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
            If training diverged: weights from before are kept. If posteriors collapsed: components whose
            posterior means hardly vary over the training rows carry nothing of X.
        UserWarning
            If X seems to hold repeated measurements, which are then kept together when rows are held out; if it has
            features that are constant, of which no value was measured, or fewer directions than `n_components`.
        """
        trained = self.__dict__.pop("_trained_fit", None)
        params = fit_parameters(self)
        X = to_single_table(X)
        previous = self.net_ if self.warm_start and hasattr(self, "net_") else None
        given: dict[str, Any] = {"y": y, "groups": groups, "X_val": X_val, "X_std": X_std, "X_val_std": X_val_std}
        data = self._training_rows(X, sample_weight, previous is None, **given)
        params, scores = with_n_components(params, data, previous)
        seed = draw_seed(params)
        checkpoint = None
        if self.checkpoint is not None:
            identity = fit_identity(parameters_of(self), data, previous)
            checkpoint = Checkpoint(self.checkpoint, self.checkpoint_every, identity, seed, is_main_process(params))
            seed = checkpoint.seed
        task = None
        if has_callbacks(self):
            n_phases = 1 + should_refit(params, data, previous) + has_noise_phase(params)
            attributes_of = partial(self._attributes_in_training, X, data, seed)
            metadata = {"sample_weight": sample_weight, **given}
            task = FitTask(self, n_phases, attributes_of, values_and_header(X)[0], **metadata)
        result = fit_model(params, data, seed, previous, checkpoint, task, trained)
        self._hold(X, result, seed, is_first=True, n_components_scores=scores)
        if task is not None:
            task.end()
        if checkpoint is not None:
            checkpoint.remove()
        self._warn_of_inactive_components()
        if self.verbose and is_main_process(params):
            print(self.summary())
        return self

    @validates_parameters
    def partial_fit(
        self: Self,
        X: ArrayLike,
        y: object = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_std: ArrayLike | None = None,
    ) -> Self:
        """Train for one pass over X, from the present weights, at a fifth of `learning_rate_init`.

        The first call takes all parameters, and the scaling and the linear start from its X (n_samples, n_features). As
        its rows may be few or unlike the rest, the moments of all rows are merged over calls. Up to 10,000 rows, the
        start at all rows so far, with or without what the networks have learned, takes the model's place where it
        scores better on the rows of the call, and the order and the signs of the components are settled anew. After
        that they stay. Nothing of this happens after `fit`. A column without a measured value in the first call stays
        out of the model, with a warning, also where it is measured later: networks have a width.
        Attributes describe the rows of the last call; `n_active_components_` and the limits of T2 and Q describe the
        rows since the start was last taken.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As in `fit`. Later calls need at least one row.
        y : ignored
            For scikit-learn's conventions.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            As in `fit`.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            As in `fit`. In moments that are merged, a row is what the model expects it to be without its errors.

        Returns
        -------
        self : VAETransformer
            The estimator.

        Raises
        ------
        ValueError
            As in `fit`. Also if the first call has fewer than 10 (n_components + 2) rows of more than 2,048 columns, as
            the start is then taken from these rows alone. Whatever is raised, in a callback too, leaves the estimator
            as it was before the call.
        KeyboardInterrupt
            After Ctrl-C. The estimator is as it was before the call.
        """
        X = to_single_table(X)
        previous = getattr(self, "net_", None)
        is_first = previous is None
        params = fit_parameters(self) if is_first else frozen_parameters(self._fitted_with)
        data = self._training_rows(X, sample_weight, is_first, is_fit=is_first, X_std=X_std)
        params, scores = with_n_components(params, data)
        seed = draw_seed(params) if is_first else self._seed
        moments = None if is_first else self._moments
        report = Report(len(data), data.n_left_out)
        warn_of_unknown_columns(report, data.rows.columns)
        with unchanged_on_failure(previous):
            net, moments = pass_once(params, data, seed, previous, moments)
            before = self._score_statistics if net is previous else None
            # A pass takes little time, so that fewer rows are looked at.
            options = {"is_new_start": net is not previous, "moments": moments, "fewer": 8, "optimism": 1.0}
            options |= {"is_first": is_first, "n_components_scores": scores, "statistics": before}
            self._hold(X, FitResult(net, net, data, report), seed, **options)
        return self

    # What a fitted model says of rows

    def fit_transform(self, X: ArrayLike, y: object = None, **fit_params: Any) -> Floats | Any:
        """Fit the model and return the posterior means of z: `transform` of `fit`, with the errors of `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored
        **fit_params : dict
            Arguments of `fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Or a frame, as `set_output` has it.
        """
        X = to_single_table(X)  # blocks can be read only once
        errors = {} if fit_params.get("X_std") is None else {"X_std": to_single_table(fit_params["X_std"])}
        return self.fit(X, y, **{**fit_params, **errors}).transform(X, **errors)

    def transform(self, X: ArrayLike, X_std: ArrayLike | None = None) -> Floats | Any:  # a frame, by set_output
        """Return the posterior means of z.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Or a frame, as `set_output` has it.
        """
        rows, predictor = self._rows_and_predictor(X, "transform", X_std)
        return predictor.transform(rows)

    def posterior_covariance(self, X: ArrayLike, X_std: ArrayLike | None = None) -> Floats:
        """Return the posterior covariances of z.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        covariances : ndarray of shape (n_samples, n_components, n_components)
            Of z given each row.
        """
        rows, predictor = self._rows_and_predictor(X, "posterior_covariance", X_std)
        return predictor.covariance(rows)

    @np.errstate(invalid="ignore")  # as in `_checked_rows`
    def inverse_transform(self, X: ArrayLike) -> Floats:
        """Return the means of p(x | z).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Latents z.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training rows. Or a frame, as `set_output` has it, with the columns of the training
            rows; so in `reconstruct`, `impute` and `sample`.
        """
        check_is_fitted(self)
        latents, _ = values_and_header(to_supported_table(X))
        Z = Rows(check_array(latents, dtype=floating_dtypes(latents), estimator=self, input_name="X"))
        check_same_namespace(Z.X, self, attribute="components_", method="inverse_transform")
        if Z.shape[1] != self.n_components_:
            raise ValueError(f"X has {Z.shape[1]} columns, but the model has n_components={self.n_components_}.")
        return self._in_frame(self._predictor(Z.dtype).inverse_transform(Z), X)

    def score_samples(self, X: ArrayLike, X_std: ArrayLike | None = None) -> Floats:
        """Return a lower bound on log p(x) of each row, in nats and in the units of X.

        log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x) with K = `n_importance_samples` draws z_k (Burda, Grosse and
        Salakhutdinov, 2016, eq. 8). It is exact at the linear start, and more draws make it tighter. For a row with
        NaN it bounds the density of the measured values. With likelihood="gaussian" (under the noise per feature),
        "poisson", "bernoulli" and "continuous_bernoulli", q is Laplace's approximation to the posterior: a normal
        distribution at the mode of p(z | x), which Gauss-Newton steps reach from the encoder's mean (or, but for
        "gaussian", from the best of 256 fixed points, where that is better); else it is the encoder's posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In nats.
        """
        rows, predictor = self._rows_and_predictor(X, "score_samples", X_std)
        validate_parameter(self, "n_importance_samples")
        return predictor.score_samples(rows, self.n_importance_samples, self._seed)

    def score(
        self,
        X: ArrayLike,
        y: object = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_std: ArrayLike | None = None,
    ) -> float:
        """Return the mean of `score_samples` in nats per row, comparable with `PCA.score` and `FactorAnalysis.score`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        y : ignored
            For scikit-learn's conventions.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights of the rows in the mean.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        score : float
            In nats.
        """
        scores = to_numpy(self.score_samples(X, X_std)).astype(np.float64)
        weight = check_sample_weight(sample_weight, len(scores))
        with np.errstate(over="ignore"):
            return float(check_finite(np.average(scores, weights=None if weight is None else weight / weight.sum())))

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        *,
        noise: bool = True,
        given: ArrayLike | None = None,
    ) -> Floats:
        """Return rows drawn from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState or None, default=None
            The same int gives the same rows.
        noise : bool, default=True
            Whether the rows have the noise of a measurement. Without it they are means of p(x | z): smooth spectra.
        given : array-like of shape (1, n_features) or None, default=None
            A row of which some values were measured; the others, NaN, are drawn given these. Draws of z are taken by
            the weights that `impute` has (sampling-importance resampling: Rubin, 1987), out of 16 for each row, 1,024
            at least.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training rows. The values that are given stay as they are.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        seed = check_random_state(random_state).randint(2**31 - 1)
        if given is None:
            rows = self._predictor(Rows(self.components_).dtype).sample(n_samples, seed, noise)
            return self._in_frame(to_library_of(self.mean_, rows))
        row, predictor = self._rows_and_predictor(given, "sample")
        if len(row) != 1:
            raise ValueError(f"given must be one row, of shape (1, {self.n_features_in_}), but has {len(row)} rows.")
        rows, x = predictor.sample(n_samples, seed, noise, row), Rows(row.X)[:]
        return self._in_frame(row.to_library_of_X(torch.where(x.isnan(), rows.to(x), x)))

    def loadings(self, X: ArrayLike, X_std: ArrayLike | None = None) -> Floats:
        """Return how each row's reconstruction changes with each component, d E[x | z] / d z in X's units.

        They are taken at the posterior means, by automatic differentiation. In a linear model every row has the
        loadings `components_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        loadings : ndarray of shape (n_samples, n_components, n_features)
            In X's units per unit of z.
        """
        rows, predictor = self._rows_and_predictor(X, "loadings", X_std)
        return predictor.jacobian(Rows(predictor.transform(rows)))

    @overload
    def reconstruct(
        self,
        X: ArrayLike,
        return_std: Literal[False] = False,
        n_draws: int = 64,
        *,
        with_noise: bool = True,
        X_std: ArrayLike | None = None,
    ) -> Floats: ...
    @overload
    def reconstruct(
        self,
        X: ArrayLike,
        return_std: Literal[True],
        n_draws: int = 64,
        *,
        with_noise: bool = True,
        X_std: ArrayLike | None = None,
    ) -> tuple[Floats, Floats]: ...
    @overload
    def reconstruct(
        self,
        X: ArrayLike,
        return_std: bool,
        n_draws: int = 64,
        *,
        with_noise: bool = True,
        X_std: ArrayLike | None = None,
    ) -> Floats | tuple[Floats, Floats]: ...
    def reconstruct(
        self,
        X: ArrayLike,
        return_std: bool = False,
        n_draws: int = 64,
        *,
        with_noise: bool = True,
        X_std: ArrayLike | None = None,
    ) -> Floats | tuple[Floats, Floats]:
        """Return what the model expects to measure again where it measured X: the posterior predictive, in X's units.

        A second measurement without known errors, that is: of rows with errors, the underlying rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
        n_draws : int, default=64
            Draws of z per row. Their mean is exactly the posterior's, and so is their covariance if they are more than
            n_components.
        with_noise : bool, default=True
            Whether `std` has the model's own noise, which is also what its mean leaves of the underlying rows. Without,
            it is that of the mean alone.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_features)
            Mean over noise and z given x. With likelihood="gaussian" this is the decoder's mean at the mode of z under
            the noise per feature, where `inverse_transform` of `transform` has the encoder's z. With "poisson",
            "bernoulli" and "continuous_bernoulli", z given x is Laplace's approximation, as in `score_samples`.
        std : ndarray of shape (n_samples, n_features)
            Standard deviation of noise, unless without, and of z given x together, if `return_std`.
        """
        rows, predictor = self._rows_and_predictor(X, "reconstruct", X_std)
        options = {"weighted": False, "with_std": return_std, "with_noise": with_noise}
        moments = predictor.predictive(rows, check_n_draws(n_draws), self._seed, **options)
        mean = self._in_frame(moments[:, 0, ...], X)
        return (mean, self._in_frame(moments[:, 1, ...], X)) if return_std else mean

    @overload
    def impute(
        self,
        X: ArrayLike,
        return_std: Literal[False] = False,
        n_draws: int = 128,
        *,
        X_std: ArrayLike | None = None,
    ) -> Floats: ...
    @overload
    def impute(
        self,
        X: ArrayLike,
        return_std: Literal[True],
        n_draws: int = 128,
        *,
        X_std: ArrayLike | None = None,
    ) -> tuple[Floats, Floats]: ...
    @overload
    def impute(
        self,
        X: ArrayLike,
        return_std: bool,
        n_draws: int = 128,
        *,
        X_std: ArrayLike | None = None,
    ) -> Floats | tuple[Floats, Floats]: ...
    def impute(
        self,
        X: ArrayLike,
        return_std: bool = False,
        n_draws: int = 128,
        *,
        X_std: ArrayLike | None = None,
    ) -> Floats | tuple[Floats, Floats]:
        """Return X with its NaN replaced by their mean given the row's measured values.

        The mean is that under the model's own posterior, not the encoder's: draws of z are weighted by
        p(x, z) / q(z | x) of the measured values x (Mattei and Frellsen, MIWAE, 2019, eq. 12). It is exact in a linear
        model whose posterior can be exact (all but "rho"). Where `score_samples` takes Laplace's approximation, the
        draws come from it, too.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
        n_draws : int, default=128
            Draws of z per row. Their mean is exactly the posterior's, and so is their covariance if they are more than
            n_components.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            The rows, with their missing values filled in, but for those of columns that the model does not know: `fit`
            left these out.
        std : ndarray of shape (n_samples, n_features)
            Standard deviation of each missing value, noise included; 0 where one was measured. If `return_std`.
        """
        rows, predictor = self._rows_and_predictor(X, "impute", X_std)
        check_n_draws(n_draws)
        filled = rows.with_all_columns()[:].clone()
        missing, incomplete = filled.isnan(), rows[:].isnan().any(1)
        std = torch.where(missing, torch.nan, torch.zeros_like(filled))
        if incomplete.any():
            to_fill = rows.select(to_numpy(incomplete.nonzero()[:, 0]))
            moments = to_tensor(predictor.predictive(to_fill, n_draws, self._seed, weighted=True, with_std=return_std))
            missing &= incomplete.unsqueeze(1)
            std[missing] = moments[:, -1][missing[incomplete]]
            filled[missing] = moments[:, 0][missing[incomplete]]
        filled = self._in_frame(rows.to_library_of_X(filled), X)
        return (filled, self._in_frame(rows.to_library_of_X(std), X)) if return_std else filled

    def get_covariance(self, n_draws: int = 10_000) -> Floats:
        """Return the model's covariance of X's features, as `PCA.get_covariance` does.

        Cov[E[x | z]] + E[Var[x | z]] over `n_draws` of z whose mean and covariance are exactly the prior's, and so
        exactly the closed form where the model is linear.

        Parameters
        ----------
        n_draws : int, default=10000
            Number of draws of z.

        Returns
        -------
        covariance : ndarray of shape (n_features, n_features)
            In X's units squared.
        """
        check_is_fitted(self)
        dtype = Rows(self.components_).dtype
        covariance = self._predictor(dtype).feature_covariance(check_n_draws(n_draws), self._seed)
        with np.errstate(over="ignore"):
            covariance = torch.from_numpy(check_finite(covariance.astype(dtype)))
        rows_known = in_all_columns(covariance, self._known_columns).T
        return to_library_of(self.mean_, in_all_columns(rows_known, self._known_columns))

    def hotelling_t2(self, X: ArrayLike, X_std: ArrayLike | None = None) -> Floats:
        """Return Hotelling's T2 of each row: how far its components lie from those of the training rows.

        (z - m)^T S^-1 (z - m) with m and S the mean and the covariance of the training rows' posterior means, over the
        `n_active_components_`. What is missing of a row, or measured with a large error, shrinks its posterior mean. T2
        is then that of the mean stretched to the spread that it would have else, by the linear model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        t2 : ndarray of shape (n_samples,)
            Without unit.
        """
        rows, predictor = self._rows_and_predictor(X, "hotelling_t2", X_std)
        with np.errstate(over="ignore", invalid="ignore"):
            t2 = self._score_statistics.t2(to_numpy(predictor.comparable_scores(rows)))
            return rows.to_library_of_X(torch.from_numpy(check_finite(t2)))

    def q_residuals(self, X: ArrayLike, X_std: ArrayLike | None = None) -> Floats:
        """Return the Q residual (SPE) of each row: its squared distance from its reconstruction.

        The reconstruction is `inverse_transform` of `transform`. For a row with NaN, Q is n_features times the mean
        over its measured values. The square of a value with an error counts in the share v / (v + X_std^2), v the
        model's noise, so that Q is as large as without errors.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        q : ndarray of shape (n_samples,)
            In X's units squared.
        """
        rows, predictor = self._rows_and_predictor(X, "q_residuals", X_std)
        return predictor.squared_residuals(rows)

    def t2_contributions(self, X: ArrayLike, X_std: ArrayLike | None = None) -> Floats:
        """Return what each channel contributes to a row's T2: which channels put it far from the training rows.

        (x_j - m_j) d T2 / d x_j, integrated along the line from the mean m of the training rows to the row (integrated
        gradients: Sundararajan, Taly and Yan, 2017). In a linear model that is the textbook's contribution,
        (z - mean)^T S^-1 a_j (x_j - m_j), with a_j the weights of channel j in z (MacGregor and Kourti, 1995).
        In a curved one the line begins at the row nearest to the mean whose T2 is 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured, for which the value counts that the model fills in.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        contributions : ndarray of shape (n_samples, n_features)
            Without unit, float64. Those of a row sum to its `hotelling_t2`. A channel whose deviation makes up for
            others' has a negative one.
        """
        rows, _ = self._rows_and_predictor(X, "t2_contributions", X_std)
        predictor = self._predictor(np.dtype(np.float64))
        return predictor.t2_contributions(rows, self._score_statistics, to_numpy(self.mean_)[self._known_columns])

    def q_contributions(self, X: ArrayLike, X_std: ArrayLike | None = None) -> Floats:
        """Return what each channel contributes to a row's Q residual: where the row is unlike its reconstruction.

        sign(e_j) e_j^2 of the residuals e = x - reconstruction (Kourti and MacGregor, 1996).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured, whose contribution is 0. The others are then multiplied by
            n_features / the number of measured values, as in `q_residuals`.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `fit`.

        Returns
        -------
        contributions : ndarray of shape (n_samples, n_features)
            In X's units squared, float64: positive where the row lies above its reconstruction. The absolute values of
            a row's sum to its `q_residuals`.
        """
        rows, predictor = self._rows_and_predictor(X, "q_contributions", X_std)
        return predictor.q_contributions(rows)

    def hotelling_t2_limit(self, level: float = 0.95) -> float:
        """Return the T2 under which this share of new rows like the training rows stays.

        d (n^2 - 1) / (n (n - d)) F(level; d, n - d) for n training rows (or the sum of their weights) and d active
        components (MacGregor and Kourti, Statistical process control of multivariate processes, 1995); infinite where n
        is not above d, or no component is active.

        Parameters
        ----------
        level : float, default=0.95
            The share, between 0 and 1.

        Returns
        -------
        limit : float
            Without unit.
        """
        check_is_fitted(self)
        return float(self._score_statistics.t2_limit(check_level(level)))

    def q_residuals_limit(self, level: float = 0.95, X: ArrayLike | None = None) -> float:
        """Return the Q residual under which this share of rows stays.

        g chi2(level; h) with the mean g h and the variance 2 g^2 h of rows' Q (Box, 1954; Nomikos and MacGregor, 1995).

        Parameters
        ----------
        level : float, default=0.95
        X : array-like of shape (n_samples, n_features) or None, default=None
            The rows. None stands for the training rows. As a model comes nearer to these than to new ones, their Q is
            then multiplied by the ratio of Q in validation rows to Q in training rows (of geometric means, before a
            refit). With fewer than eight validation rows (or groups) it is the ratio that leaving a row out of a linear
            model with the same components would give. After `partial_fit` the ratio is not known and taken to be 1.
            Held-out rows give a surer limit.

        Returns
        -------
        limit : float
            In X's units squared.
        """
        check_is_fitted(self)
        check_level(level)
        if X is None:
            return float(self._score_statistics.q_limit(level))
        q = to_numpy(self.q_residuals(X))
        unit = q.max() or 1.0  # squares of q may be out of range
        return float(check_finite(unit * q_limit((q / unit).mean(), (q / unit).var(), level)))

    def summary(self) -> str:
        """Return what the fit tells of itself, as a text of a few lines.

        The rows that it was fitted to and validated on; the objective of the validation rows (nats per row) and the R2
        of their reconstruction, at the linear start and by the weights that were kept; the epoch that was kept, or that
        it was the start; the active components; and what was warned of. With likelihood="gaussian" the objective is
        that of the isotropic noise that the means are trained under.

        Returns
        -------
        text : str
            `fit` prints it where `verbose` is not 0.
        """
        check_is_fitted(self)
        return summary(self)

    # Pickle, clone and files

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_version": __version__}
        return plain_state(state) if "net_" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        warn_of_other_version(type(self).__name__, state.pop("_version", None))
        if "net_" in state:
            state = {**restored_attributes(state), "_predictors": {}}
        super().__setstate__(state)

    def __sklearn_clone__(self: Self) -> Self:
        cloned = super().__sklearn_clone__()
        handover = vars(self).get("_handover")
        if handover is not None:
            handover.pass_on(cloned)
        return cloned

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted estimator to a safetensors file, for `skvae.load`.

        The file holds weights, the states of optimizer and generator, attributes, parameters and history, the versions
        of skvae, torch and scikit-learn, and a checksum. Training goes on from it to the same bits. It holds only a
        description of parameters that are objects, such as a class of your own. Routing requests are not in it.

        Parameters
        ----------
        path : str or path-like
            The file is replaced in whole or not at all. Where several processes trained one model, the first writes it.

        Raises
        ------
        OSError
            If the file cannot be written.
        ValueError
            If a subclass has attributes of its own, a parameter has been set to what it may not be, or a number is not
            finite.
        NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(self)
        write_estimator(self, path)

    # Checks and fitted attributes

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        tags.array_api_support = True
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    @np.errstate(invalid="ignore")  # scikit-learn first looks for infinity in the sum, where inf - inf may be
    def _checked_rows(self, X: Any, X_std: Any = None, is_fit: bool = False, reset: bool = False) -> Rows:
        """X as checked rows, with the errors of its values; nothing of the estimator changes."""
        X, header = values_and_header(to_supported_table(X))
        options = {"dtype": floating_dtypes(X), "ensure_min_samples": 1 + is_fit, "ensure_all_finite": "allow-nan"}
        X = check_array(X, estimator=self, input_name="X", **options)
        if not reset:
            validate_data(self, header, reset=False, skip_check_array=True)
        rows = Rows(X, errors=check_errors(X_std, X.shape, header))
        if is_fit:
            check_parameters(fit_parameters(self), len(rows))
        likelihood = lookup(LIKELIHOODS, self.likelihood) if is_fit else type(self.net_.module_.likelihood)
        check_support(likelihood, rows)
        check_takes_errors(likelihood, rows, X_std is not None)
        return rows if reset else rows.with_columns(self._known_columns)

    @property
    def _known_columns(self) -> NDArray[np.bool_]:
        """Which columns of X the model knows, shape (n_features,): those that were measured in its first rows."""
        return ~np.isnan(to_numpy(self.mean_))

    def _in_frame(self, rows: Floats, X: Any = None) -> Any:
        """Rows of X's features as the frame that `set_output` asks for, with the index of X, or as they are."""

        def columns(container: str) -> list[Any]:
            if hasattr(self, "feature_names_in_"):
                return list(self.feature_names_in_)
            if not hasattr(self, "wavelengths_"):
                return [f"x{i}" for i in range(self.n_features_in_)]
            numbers = self.wavelengths_.tolist()
            return numbers if container == "pandas" else [f"{number:.15g}" for number in numbers]

        return in_output_container(self, rows, columns, X)

    def _predictor(self, dtype: np.dtype) -> Predictor:
        """The fitted model for arrays of a dtype, made once."""
        predictor = self._predictors.get(dtype)
        if predictor is None or predictor.trained is not self.net_.module_:
            predictor = self._predictors[dtype] = Predictor(self.net_.module_, dtype, self._known_columns)
        return predictor

    def _rows_and_predictor(self, X: ArrayLike, method: str, X_std: ArrayLike | None = None) -> tuple[Rows, Predictor]:
        """X as checked rows, and the fitted model for them, in the method of this name."""
        check_is_fitted(self)
        rows = self._checked_rows(X, X_std)
        check_same_namespace(rows.X, self, attribute="components_", method=method)
        return rows, self._predictor(rows.dtype)

    def _training_rows(
        self,
        X: ArrayLike,
        sample_weight: ArrayLike | None,
        reset: bool,
        is_fit: bool = True,
        y: Any = None,
        groups: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
        X_std: ArrayLike | None = None,
        X_val_std: ArrayLike | None = None,
    ) -> FitData:
        """Checked rows and what is known of them, without rows of weight 0 and rows with no measured value.

        If the model is new, columns without a measured value in the other rows are left out.
        """
        if X_val is None and X_val_std is not None:
            raise ValueError("X_val_std has the errors of X_val, which is None.")
        rows = self._checked_rows(X, X_std, is_fit=is_fit, reset=reset)
        weight, group = check_sample_weight(sample_weight, len(rows)), check_groups(groups, len(rows))
        held_out = None
        if is_fit and hasattr(self.validation_fraction, "split"):
            held_out = rows_held_out(self.validation_fraction, len(rows), y, groups)
        kept = np.ones(len(rows), dtype=bool) if weight is None else weight > 0
        lacks_values = has_missing(rows)
        if lacks_values:
            if reset:
                rows = rows.with_columns(any_measured(rows.select(np.flatnonzero(kept))))
            kept &= ~all_missing(rows)
            lacks_values = has_missing(rows.select(np.flatnonzero(kept)))
        if kept.sum() < 1 + is_fit:
            least = "two are needed" if is_fit else "one is needed"
            raise ValueError(
                f"X has {kept.sum()} rows with a value that is not NaN and a positive sample_weight; {least}."
            )
        validation = None if X_val is None else self._validation_rows(X, X_val, X_val_std, rows)
        uneven = lacks_values or rows.errors is not None or (validation is not None and is_uneven(validation))
        data = FitData(rows, weight, uneven, group, held_out, validation)
        return data if kept.all() else data.select(kept)

    def _validation_rows(self, X: ArrayLike, X_val: ArrayLike, X_val_std: ArrayLike | None, training: Rows) -> Rows:
        """X_val as checked rows with the columns of the training rows, without those that have no measured value."""
        X_val, header = values_and_header(to_supported_table(X_val))
        try:
            rows = Rows(check_array(X_val, dtype=floating_dtypes(X_val), ensure_all_finite="allow-nan"))
            if rows.shape[1] != training.X.shape[1]:
                raise ValueError(f"it has {rows.shape[1]} features, and X has {training.X.shape[1]}.")
            check_same_labels(header, values_and_header(X)[1], "X_val", "X")
            check_support(lookup(LIKELIHOODS, self.likelihood), rows)
        except ValueError as error:
            raise ValueError(f"X_val is not as X is: {error}") from error
        rows = Rows(rows.X, errors=check_errors(X_val_std, rows.shape, header, "X_val_std", "X_val"))
        check_takes_errors(lookup(LIKELIHOODS, self.likelihood), rows, X_val_std is not None, "X_val_std", "X_val")
        rows = rows.with_columns(training.columns)
        if has_missing(rows):
            rows = rows.select(np.flatnonzero(~all_missing(rows)))
        if not len(rows):
            raise ValueError("X_val has no row with a value that is not NaN.")
        return rows

    def _hold(
        self,
        X: ArrayLike,
        result: FitResult,
        seed: int,
        is_first: bool,
        n_components_scores: Floats | None = None,
        **options: Any,
    ) -> None:
        """Set all fitted attributes at once, when they are known, and pass an interruption on."""
        if result.data.has_enough_validation_rows:
            options["optimism"] = optimism(result.selection.module_, *result.data.parts())
        attributes = self._attributes(result, seed, **options)
        if is_first:
            keep_labels_of_columns(self, X)
            attributes["_fitted_with"] = self._present_parameters(attributes["n_components_"])
            self.__dict__.pop("n_components_scores_", None)
            if n_components_scores is not None:
                attributes["n_components_scores_"] = n_components_scores
        self.__dict__.update(attributes)
        if result.selection.interrupted_:
            raise KeyboardInterrupt("Interrupted: the estimator holds the best weights so far.")

    def _present_parameters(self, n_components: int) -> dict[str, Any]:
        """The parameters of a fit with so many components, as values that later changes of a list do not reach."""
        present = {name: frozen(value) for name, value in parameters_of(self).items()}
        return {**present, "n_components": n_components}

    def _attributes(
        self, result: FitResult, seed: int, is_new_start: bool = True, moments: Moments | None = None, **options: Any
    ) -> dict[str, Any]:
        """The fitted attributes that the trained net, the history of the selected one and the rows give."""
        net, rows = result.net, result.data.rows
        module = net.module_
        mean = module.likelihood.column_mean.numpy() if is_new_start else to_numpy(self.mean_)[self._known_columns]
        mean = mean.astype(rows.dtype)
        attributes = {
            "net_": net,
            "_seed": seed,
            "_report": asdict(result.report),
            "_moments": moments,
            "_predictors": {},
            "device_": net.device,
            "n_components_": module.n_components,
            "mean_": mean,
            **fitted_attributes(module, result.selection, rows.columns),
            **component_attributes(module, result.data, mean, arrange=is_new_start, **options),
        }
        arrays = {name: torch.from_numpy(value) for name, value in attributes.items() if isinstance(value, np.ndarray)}
        arrays.update({name: in_all_columns(arrays[name], rows.columns) for name in ("mean_", "components_")})
        return {**attributes, **{name: rows.to_library_of_X(tensor) for name, tensor in arrays.items()}}

    def _attributes_in_training(self, X: ArrayLike, data: FitData, seed: int, net: Any) -> dict[str, Any]:
        """All fitted attributes that the present weights of a net in training give, which is copied for them."""
        present = copy.copy(net)
        present.module_, present.best_epoch_ = copy.deepcopy(net.module_), len(net.history) - 1
        present.module_.eval()
        features = BaseEstimator()
        keep_labels_of_columns(features, X)
        attributes = self._attributes(FitResult(present, present, data, Report(len(data))), seed)
        present = self._present_parameters(attributes["n_components_"])
        return {**vars(features), **attributes, "_fitted_with": present}

    def _warn_of_inactive_components(self) -> None:
        inactive = np.flatnonzero(~self._score_statistics.active)
        if len(inactive):
            warnings.warn(
                f"Posterior collapse in component {', '.join(map(str, inactive))} (of 0 to {self.n_components_ - 1}): "
                f"the variance of its posterior means over the training rows is at most {ACTIVE}, so that it carries "
                "nothing of X. Try fewer n_components, a kl_warmup or free_bits.",
                ConvergenceWarning,
                stacklevel=3,
            )


def keep_labels_of_columns(estimator: BaseEstimator, X: Any) -> None:
    """Set the attributes that describe X's columns, in place of those of an earlier fit."""
    header = values_and_header(X)[1]
    validate_data(estimator, header, reset=True, skip_check_array=True)
    estimator.__dict__.pop("wavelengths_", None)
    numbers = column_numbers(header)
    if numbers is not None:
        estimator.wavelengths_ = numbers


def check_support(likelihood: Any, rows: Rows) -> None:
    """Raise ValueError unless all values of the rows lie in the likelihood's support."""
    if likelihood.check is not Likelihood.check:  # which takes all values, so that no pass over the rows is needed
        likelihood.check(rows.X if isinstance(rows.X, np.ndarray) else rows.extremes())


def check_takes_errors(likelihood: Any, rows: Rows, is_given: bool, name: str = "X_std", of: str = "X") -> None:
    """Raise ValueError where a likelihood takes no errors and some are given, or needs them and there are none.

    `name` and `of` are the names of the arguments that have the errors and the rows.
    """
    if is_given and not likelihood.takes_errors:
        takers = ", ".join(repr(key) for key, kind in LIKELIHOODS.items() if kind.takes_errors)
        named = next((repr(key) for key, kind in LIKELIHOODS.items() if kind is likelihood), repr(likelihood))
        raise ValueError(f"likelihood={named} takes no {name}: these likelihoods take errors: {takers}.")
    if likelihood.has_noise:
        return
    if rows.errors is None or any((errors == 0).any() for _, errors in rows.errors.blocks()):
        raise ValueError(
            f"likelihood='gaussian_known' has no noise beside the errors of {of}, so that it needs {name}, the "
            "standard deviation of each value, greater than 0."
        )


def check_n_draws(n_draws: int) -> int:
    return check_scalar(n_draws, "n_draws", Integral, min_val=1)


def check_level(level: float) -> float:
    return check_scalar(level, "level", Real, min_val=0, max_val=1, include_boundaries="neither")
