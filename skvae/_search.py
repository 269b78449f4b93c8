"""A grid search whose models are trained side by side."""

import math
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing

from ._parameters import resolve_device
from ._together import train_together
from ._training import TRAINED, draw_seed, fit_key, n_parameters, stages
from ._transformer import VAETransformer

Self = TypeVar("Self", bound="VAESearchCV")  # typing has its own from Python 3.11 on

AT_ONCE = 64  # models, at most, that are trained side by side
LARGE = 100_000  # parameters, from which on a step on the CPU is arithmetic, which takes as long together
# Parameters that may differ between nets that are trained together.
VARYING = {
    *("random_state", "beta", "learning_rate_init", "weight_decay", "kl_warmup", "max_iter", "n_iter_no_change", "tol"),
    *("validation_fraction", "early_stopping", "refit", "n_importance_samples", "verbose", "checkpoint_every"),
}


class VAESearchCV(GridSearchCV):
    """Grid search over a `VAETransformer`, or a Pipeline that ends in one, many models at a time.

    Candidates and folds that share what shapes a net - all parameters but `random_state`, `beta`, `learning_rate_init`,
    `weight_decay`, `kl_warmup`, `max_iter`, `n_iter_no_change`, `tol`, `validation_fraction`, `early_stopping` and
    `refit` - are trained as one stacked model: a step of all of them costs little more than the arithmetic of one
    each. Each keeps its rows, its generator, its schedule and its patience, so that it becomes what it would alone, to
    float32's rounding. The rest - other models, rows with NaN, free bits, "info", networks and classes of one's own,
    the estimator's callbacks, `net_params`, a `random_state` that is no integer; on a CPU also nets of 100,000
    parameters and more, which gain nothing - is fitted as `GridSearchCV` does.

    Parameters and attributes are `GridSearchCV`'s, and these.

    Parameters
    ----------
    estimator : VAETransformer or Pipeline
        Whose parameters are searched.
    param_grid : dict or list of dict
        Names of parameters and the values to try.
    scoring : str, callable, list, tuple, dict or None, default=None
        None: the estimator's `score`, nats a row.
    n_jobs : int or None, default=None
        Of all but the training of stacked models: the other fits, and scoring.
    refit : bool, str or callable, default=True
        Whether to fit the best on all of X; how to choose it.
    cv : int, cross-validation generator, iterable or None, default=None
        As `GridSearchCV`'s.
    verbose : int, default=0
        As `GridSearchCV`'s.
    pre_dispatch : int or str, default="2*n_jobs"
        As `GridSearchCV`'s.
    error_score : "raise" or number, default=nan
        What a fit that fails scores.
    return_train_score : bool, default=False
        Whether to score training rows, too.

    Attributes
    ----------
    n_trained_together_ : int
        Of the fits in the search.

    Notes
    -----
    ``cv_results_["mean_fit_time"]`` has, of models that were trained together, an equal share of their time. At most
    64 are trained at once, and fewer where scikit-learn's ``working_memory`` has no room for their rows.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skvae import VAESearchCV, VAETransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> vae = VAETransformer(2, max_iter=2, hidden_layer_sizes=(16,), random_state=0)
    >>> search = VAESearchCV(vae, {"beta": [1.0, 4.0], "learning_rate_init": [1e-3, 3e-3]}, cv=2).fit(X[:400])
    >>> search.n_trained_together_
    8
    """

    cv: Any

    def fit(self: Self, X: ArrayLike, y: object = None, **params: Any) -> Self:
        """Run the search.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As the estimator's `fit` has it.
        y : array-like or None, default=None
            For splitters and scorers that need it.
        **params : dict
            For the estimator's `fit`, such as `sample_weight`, and for the splitter. With others than
            `sample_weight`, nothing is trained together.

        Returns
        -------
        self : VAESearchCV
            The search.
        """
        self.n_trained_together_ = 0
        if set(params) - {"sample_weight"}:
            return super().fit(X, y, **params)
        given = self.cv
        # Once, as a splitter may draw and an iterator ends.
        self.cv = list(check_cv(given, y, classifier=is_classifier(self.estimator)).split(X, y))
        self._given = X, y, params.get("sample_weight")
        try:
            return super().fit(X, y, **params)
        finally:
            self.cv = given
            del self._given

    def _run_search(self, evaluate_candidates, *, callback_ctx=None):
        context = {} if callback_ctx is None else {"callback_ctx": callback_ctx}  # from scikit-learn 1.9 on
        if not hasattr(self, "_given"):
            super()._run_search(evaluate_candidates, **context)
            return

        def evaluate(grid, **options):
            candidates = [Candidate(parameters) for parameters in grid]
            self._train(candidates)
            results = evaluate_candidates(candidates, **options)
            results["params"][:] = grid
            results["mean_fit_time"] += [candidate.seconds / len(self.cv) for candidate in candidates]
            return results

        token = TRAINED.set(None)
        try:
            super()._run_search(evaluate, **context)
        finally:
            TRAINED.reset(token)

    def _train(self, candidates):
        """Train what can be trained together, as many at once as there is room for."""
        alike: dict[str, list] = defaultdict(list)
        for candidate in candidates:
            model = clone(self.estimator).set_params(**clone(dict(candidate), safe=False))
            last = model[-1] if isinstance(model, Pipeline) else model
            if isinstance(last, VAETransformer) and trains_together(last):
                shape = {name: value for name, value in last.get_params(deep=False).items() if name not in VARYING}
                alike[repr(sorted(shape.items()))] += [(candidate, model, train) for train, _ in self.cv]
        for places in alike.values():
            for fits in self._plans(places):
                begin = time.perf_counter()
                train_side_by_side(fits)
                seconds = time.perf_counter() - begin
                done = [fit for fit in fits if fit.result is not None]
                for fit in done:
                    fit.candidate.trained[fit.key] = fit.result
                    fit.candidate.seconds += seconds / len(done)
                self.n_trained_together_ += len(done)
                if self.verbose:
                    print(f"Trained {len(done)} fits side by side in {seconds:.1f} s")

    def _plans(self, places):
        """Yield lists of fits."""
        all_room = get_config()["working_memory"] * 2**20
        fits, room = [], all_room
        for candidate, model, train in places:
            fit = self._plan(candidate, model, train)
            if fit is not None:
                fits.append(fit)
                room -= fit.n_bytes
            if fits and (len(fits) == AT_ONCE or room < 0):
                yield fits
                fits, room = [], all_room
        if fits:
            yield fits

    def _plan(self, candidate, model, train):
        """What a fit will be, or None if it is to be alone."""
        X, y, weight = self._given
        rows, model = _safe_indexing(X, train), clone(model)
        if isinstance(model, Pipeline):
            before, model = model[:-1], model[-1]
            if len(before):
                try:
                    rows = before.fit_transform(rows, None if y is None else _safe_indexing(y, train))
                except Exception:  # whatever it is, the fit will raise it, and the search say what follows
                    return None
        try:
            weight = None if weight is None else _safe_indexing(weight, train)
            table, weight, gaps = model._training_rows(rows, weight, reset=True)
            n_features = table.shape[1]
            large = n_parameters(model, n_features) >= LARGE and str(resolve_device(model.device)) == "cpu"
        except (TypeError, ValueError):
            return None
        if gaps or table.streams or large:
            return None
        seed = draw_seed(model)
        plan = stages(model, table, seed, weight)
        # Rows in double precision, and scaled twice in single.
        return Fit(candidate, fit_key(model, table, seed, weight), plan, 16 * len(table) * n_features)


class Candidate(dict):
    """Parameters to try, and what is trained of them: in whatever process a fit of them is, it takes it from here."""

    def __init__(self, parameters):
        super().__init__(parameters)
        self.trained: dict[Any, Any] = {}
        self.seconds = 0.0

    def __sklearn_clone__(self):
        """The parameters; called just before a fit."""
        TRAINED.set(self.trained)
        return clone(dict(self), safe=False)


@dataclass
class Fit:
    """Of a candidate on a fold: what it is known by, its stages, the room it takes, and what comes of it."""

    candidate: Candidate
    key: Any
    plan: Any
    n_bytes: int
    result: Any = None


def train_side_by_side(fits):
    """Train fits stage by stage. One that fails gets no `result`: alone, it will say why."""
    while fits:
        begun, alike = [], defaultdict(list)
        for fit in fits:
            try:
                stage = next(fit.plan)
            except StopIteration as end:
                fit.result = end.value
            except ValueError:
                pass
            else:
                begun.append((fit, stage))
                alike[stage.net.batch_size, stage.data[0].shape[1]].append(stage)
        for of_one_shape in alike.values():
            train_together(of_one_shape)
        fits = [fit for fit, stage in begun if math.isfinite(stage.net.best_score_)]


def trains_together(params):
    """Whether a fit with these parameters can be one of many."""
    names = params.posterior, params.likelihood, params.encoder, params.decoder, params.objective, params.activation
    return (
        all(isinstance(name, str) for name in names)
        and params.objective in ("elbo", "iwae")
        and not params.free_bits
        and params.precision == "float32"
        and isinstance(params.random_state, int)
        and params.max_iter > 0
        and not (params.compile or params.distributed or params.warm_start)
        and params.callbacks is params.net_params is params.checkpoint is None
        and not hasattr(params, "_skl_callbacks")
    )
