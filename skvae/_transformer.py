"""The scikit-learn face: parameters and attributes."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np

from ._parameters import (
    CONSTRAINTS,
    ActivationOption,
    LikelihoodOption,
    NetworkOption,
    ObjectiveOption,
    PosteriorOption,
)
from ._persistence import PersistentVAE


class VAETransformer(PersistentVAE):
    r"""Variational autoencoder that starts at PCA's or factor analysis's optimum and improves on it.

    z ~ N(0, I), x | z from a likelihood whose mean is a linear map of z plus a neural network, and an
    approximate posterior q(z | x) whose mean is a linear map of x plus a neural network. With a Gaussian
    likelihood the linear maps and the noise start at the closed-form optimum of the linear model, and
    the weights kept are the best on validation rows, the start included.

    Parameters
    ----------
    n_components : int, default=2
        Dimension of the latent space.
    posterior : {"diag", "rho", "rho_diag", "full"} or class, default="diag"
        Covariance of q(z | x): diagonal; s rho^|i-j| (the rho-VAE's AR(1), with two numbers); AR(1)
        correlation with a variance a component; any. Or a subclass of `skvae.posteriors.Posterior`.
    likelihood : {"gaussian", "gaussian_isotropic", "gaussian_unit", "gaussian_heteroscedastic", "bernoulli", \
            "continuous_bernoulli", "poisson"} or class, default="gaussian"
        p(x | z): Gaussian with a noise variance per feature, as factor analysis has; with one for all
        features, as probabilistic PCA has; with variance one in X's units; with a variance per row and
        feature from the decoder, at least 0.01 of factor analysis's (without a floor the bound has no
        maximum); Bernoulli, for binary X; continuous Bernoulli, for X in [0, 1]; Poisson, for counts. The last
        three have no linear optimum and start plainly, at the column means. Or a subclass of
        `skvae.likelihoods.Likelihood`. Noise variances are at least 1e-6 of the feature's.
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
        Draws of z a row and training step.
    encoder, decoder : {"mlp", "conv1d", "conv2d"} or callable, default="mlp"
        Networks beside the linear maps: dense layers; convolutions along the features; convolutions over images of
        `input_shape`, each before dense layers (after them, in the decoder). Or a callable (n_in, n_out) that
        returns a new Module from (n, n_in) to (n, n_out).
    input_shape : (channels, height, width) or None, default=None
        Of a row, for "conv2d".
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Dense layers of the encoder and of the decoder. Empty, with "mlp": a linear model.
    activation : {"silu", "relu", "gelu", "elu", "tanh", "logistic", "softplus", "identity"} or callable, default="silu"
    init : {"linear", "random"}, default="linear"
        "random": networks alone, without the linear maps and their optimum, as a plain VAE is.
    learning_rate_init : float, default=1e-3
        Greatest learning rate. It rises over the first tenth of the steps and falls to 0 along a cosine.
    weight_decay : float, default=0.1
        Of AdamW: pulls the networks to zero and so the model to its linear start.
    batch_size : int or "auto", default="auto"
        "auto": the power of two next to n_samples / 32, within [16, 256].
    max_iter : int, default=100
        Most epochs. 0 keeps the linear optimum of all rows.
    early_stopping : bool, default=True
        Whether to keep the weights that score best on validation rows, and stop `n_iter_no_change` epochs later.
    validation_fraction : float, default=0.1
        Share of rows held out, as four stretches of consecutive rows: neighbours are often alike.
    n_iter_no_change : int, default=10
    tol : float, default=0.0
        In nats.
    refit : bool or "auto", default="auto"
        Whether to train again on all rows, for as many epochs as were best on the validation rows. "auto":
        with fewer than 10,000 rows.
    n_importance_samples : int, default=16
        Draws a row in `score` and `score_samples`.
    device : str, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    precision : {"float32", "tf32", "bf16"}, default="float32"
        Of the networks' matrix products in training; the linear path and inference stay exact. Its effect
        on speed and score: ``benchmarks/README.md``. "tf32" is for CUDA, and holds for the process meanwhile.
        Convolutions on CUDA follow torch's own setting, ``torch.backends.cudnn``, which allows tf32.
    compile : bool, default=False
        Whether torch.compile fuses a step's operations: faster for small networks, after 10 to 30 seconds.
    distributed : bool, default=False
        Whether the processes that ``torchrun`` or ``accelerate launch`` started share each batch's rows (extra
        ``distributed``). All call `fit` with the same X, all end with the same model; the steps are those of one
        process with this `batch_size`, to rounding. (A penalty on z, as InfoVAE's, is of each process's rows.) In a
        process that is alone it changes nothing.
    callbacks : list of skorch callbacks or None, default=None
    net_params : dict or None, default=None
        Further parameters of `skorch.NeuralNet`, such as ``{"optimizer": torch.optim.SGD}``. An optimizer
        given here comes without the weight decay; ``lr_scheduler`` is a function of the share of steps
        done, or None.
    warm_start : bool, default=False
        Whether `fit` goes on from the fitted weights (and their scaling of X) in place of a new start.
    checkpoint : str, path-like or None, default=None
        File that `fit` keeps what it has reached in, and removes when it is done. If the process is killed, or stopped
        by Ctrl-C, the same call of `fit` goes on from there to the weights of a run that was not: on the CPU, to the
        bits. The file knows which rows and parameters it belongs to. Callbacks start anew. A file is one
        fit's: those of a search would refuse each other's. `partial_fit` does without: call `save` in between.
    checkpoint_every : int, default=1
        Epochs between two writings.
    random_state : int, RandomState or None, default=None
        The same int gives the same numbers. torch's global generator is neither used nor changed, unless a network
        of one's own draws from it in training, as Dropout does.
    verbose : int, default=0
        1 shows a progress line.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Loadings in X's units: d E[x | z] / d z, mean over the training rows (at most 512, evenly spread); of a linear
        model its loadings. Each has its largest entry positive. Components are sorted by the variance of X that they
        bring to first order, Var(z_j) mean |d E[x | z] / d z_j|^2: of a linear model, as PCA's. Those of "rho" and
        "rho_diag" are not, as their order is part of the posterior; its correlations are rho^|i-j| up to the signs.
    explained_variance_, explained_variance_ratio_ : ndarray of shape (n_components,)
        Variance of X, in X's units squared and as a share, that the reconstruction of training rows (at most 2,048)
        gains with each component: by E[x | z_1 ... z_k] over E[x | z_1 ... z_(k-1)]. The shares sum to R2.
    kl_per_component_ : ndarray of shape (n_components,)
        KL(q(z_j | x) || N(0, 1)) in nats, mean over the training rows: what each component says of a row.
    n_active_components_ : int
        Components whose posterior means have a variance over 0.01 (Burda et al., 2016, section 5.2).
    mean_ : ndarray of shape (n_features,)
        Mean of the training rows.
    noise_variance_ : float, ndarray of shape (n_features,) or None
        In X's units squared, float64. None where noise is not one number a feature.
    n_components_, n_features_in_, n_iter_, best_iter_ : int
        `n_iter_` is the number of epochs run, `best_iter_` the one that was best on the validation rows.
    history_ : list of dict
        A row an epoch, from 0, the start: epoch, train_loss and train_kl (nats a row, mean over the epoch),
        valid_score (the objective of validation rows, or train_score of a few training rows, at full `beta` and
        without `free_bits`), dur (seconds). With `refit`, of the run that chose the number of epochs.
    device_ : str
    net_ : skorch.NeuralNet

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

    def __init__(
        self,
        n_components: int = 2,
        *,
        posterior: PosteriorOption = "diag",
        likelihood: LikelihoodOption = "gaussian",
        objective: ObjectiveOption = "elbo",
        beta: float = 1.0,
        kl_warmup: int = 0,
        free_bits: float = 0.0,
        n_draws: int = 1,
        encoder: NetworkOption = "mlp",
        decoder: NetworkOption = "mlp",
        input_shape: Sequence[int] | None = None,
        hidden_layer_sizes: Sequence[int] = (256, 256),
        activation: ActivationOption = "silu",
        init: Literal["linear", "random"] = "linear",
        learning_rate_init: float = 1e-3,
        weight_decay: float = 0.1,
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 100,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 0.0,
        refit: bool | Literal["auto"] = "auto",
        n_importance_samples: int = 16,
        device: str = "auto",
        precision: Literal["float32", "tf32", "bf16"] = "float32",
        compile: bool = False,
        distributed: bool = False,
        callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        warm_start: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 1,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.posterior = posterior
        self.likelihood = likelihood
        self.objective = objective
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.n_draws = n_draws
        self.encoder = encoder
        self.decoder = decoder
        self.input_shape = input_shape
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.init = init
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.refit = refit
        self.n_importance_samples = n_importance_samples
        self.device = device
        self.precision = precision
        self.compile = compile
        self.distributed = distributed
        self.callbacks = callbacks
        self.net_params = net_params
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.random_state = random_state
        self.verbose = verbose
