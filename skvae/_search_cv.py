"""A grid search whose models are trained as one stacked model."""

import math
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.pipeline import Pipeline

from ._data.devices import resolve_device
from ._parameters import PARAMETERS, can_be_stacked, fit_parameters
from ._sklearn_compat import has_callbacks, safe_indexing
from ._training.fit import FitResult, TrainedFit, draw_seed, fit_key, n_weights, phases
from ._training.stacked_fit import train_stacked
from ._vae import VAETransformer

Self = TypeVar("Self", bound="VAESearchCV")  # typing has its own from Python 3.11 on

AT_ONCE = 64  # models, at most, that are trained side by side
LARGE = 100_000  # weights, from which on a step on the CPU is arithmetic, which takes as long together


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
    estimator: Any

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
        given_cv, given_estimator = self.cv, self.estimator
        # The splits are made once, as a splitter may draw and an iterator ends.
        self.cv = list(check_cv(given_cv, y, classifier=is_classifier(self.estimator)).split(X, y))
        self.estimator = clone(given_estimator)
        self._handover = last_step(self.estimator)._handover = Handover()
        self._rows = X, y, params.get("sample_weight")
        try:
            return super().fit(X, y, **params)
        finally:
            self.cv, self.estimator = given_cv, given_estimator
            del self._rows, self._handover

    def _run_search(self, evaluate_candidates, *, callback_ctx=None):
        context = {} if callback_ctx is None else {"callback_ctx": callback_ctx}  # from scikit-learn 1.9 on
        if not hasattr(self, "_rows"):
            super()._run_search(evaluate_candidates, **context)
            return

        def evaluate(grid, **options):
            plans = self._train(grid)
            # GridSearchCV clones its estimator for each candidate and each of its folds, in this order.
            self._handover.queue = deque(plan.trained for of_candidate in plans for plan in of_candidate)
            results = evaluate_candidates(grid, **options)
            seconds = [sum(plan.seconds for plan in of_candidate) for of_candidate in plans]
            results["mean_fit_time"] += [total / len(self.cv) for total in seconds]
            return results

        super()._run_search(evaluate, **context)

    def _train(self, grid):
        """Train what can be trained together, as many at once as there is room for.

        Returns a list of the folds' plans for each candidate.
        """
        plans = [[Plan(train) for train, _ in self.cv] for _ in grid]
        stacks: dict[str, list] = defaultdict(list)
        for parameters, of_candidate in zip(grid, plans, strict=True):
            model = clone(self.estimator).set_params(**clone(parameters, safe=False))
            last = last_step(model)
            if is_stackable(last):
                fixed = {name for name, parameter in PARAMETERS.items() if parameter.stacks != "each"}
                shape = {name: value for name, value in last.get_params(deep=False).items() if name in fixed}
                stacks[repr(sorted(shape.items()))] += [(model, plan) for plan in of_candidate]
        for stack in stacks.values():
            for fits in self._batches_of_fits(stack):
                begin = time.perf_counter()
                train_side_by_side(fits)
                seconds = time.perf_counter() - begin
                trained = [fit for fit in fits if fit.result is not None]
                for fit in trained:
                    fit.plan.trained = TrainedFit(fit.result, fit.key)
                    fit.plan.seconds = seconds / len(trained)
                self.n_trained_together_ += len(trained)
                if self.verbose:
                    print(f"Trained {len(trained)} fits side by side in {seconds:.1f} s")
        return plans

    def _batches_of_fits(self, stack) -> "Iterator[list[StackedFit]]":
        """Yield lists of fits, as many as there is room for."""
        all_room = get_config()["working_memory"] * 2**20
        fits: list[StackedFit] = []
        room = all_room
        for model, plan in stack:
            fit = self._prepare(model, plan)
            if fit is not None:
                fits.append(fit)
                room -= fit.n_bytes
            if fits and (len(fits) == AT_ONCE or room < 0):
                yield fits
                fits, room = [], all_room
        if fits:
            yield fits

    def _prepare(self, model, plan):
        """What a fit will be, or None if it is to be alone."""
        X, y, weight = self._rows
        rows, model = safe_indexing(X, plan.train), clone(model)
        if isinstance(model, Pipeline):
            before, model = model[:-1], model[-1]
            if len(before):
                try:
                    rows = before.fit_transform(rows, None if y is None else safe_indexing(y, plan.train))
                except Exception:  # whatever it is, the fit will raise it, and the search say what follows
                    return None
        try:
            weight = None if weight is None else safe_indexing(weight, plan.train)
            data = model._training_rows(rows, weight, reset=True)
            params = fit_parameters(model)
            n_features = data.rows.shape[1]
            is_large = n_weights(params, n_features) >= LARGE and str(resolve_device(model.device)) == "cpu"
        except (TypeError, ValueError):
            return None
        if data.has_missing or data.rows.is_streamed or is_large:
            return None
        seed = draw_seed(params)
        n_bytes = 16 * len(data) * n_features  # rows in double precision, and scaled twice in single
        return StackedFit(plan, fit_key(params, data, seed), phases(params, data, seed), n_bytes)


class Handover:
    """Gives each clone of an estimator the fit that was trained for it, once there are such fits.

    Before, a clone of the estimator has the handover itself.
    """

    def __init__(self):
        self.queue = None

    def pass_on(self, cloned):
        if self.queue is None:
            cloned._handover = self
        elif self.queue:
            trained = self.queue.popleft()
            if trained is not None:
                cloned._trained_fit = trained


@dataclass
class Plan:
    """A candidate's fit on a fold: its rows, and the trained fit and the seconds it took, if it was not alone."""

    train: Any
    trained: TrainedFit | None = None
    seconds: float = 0.0


@dataclass
class StackedFit:
    """A fit that is trained beside others: what it is known by, its phases, the room it takes, what comes of it."""

    plan: Plan
    key: Any
    phases: Any
    n_bytes: int
    result: FitResult | None = None


def train_side_by_side(fits):
    """Train fits phase by phase. One that fails gets no `result`: alone, it will say why."""
    while fits:
        begun, stacks = [], defaultdict(list)
        for fit in fits:
            try:
                phase = next(fit.phases)
            except StopIteration as end:
                fit.result = end.value
            except ValueError:
                pass
            else:
                begun.append((fit, phase))
                stacks[phase.net.batch_size, phase.data[0].shape[1]].append(phase)
        for of_one_shape in stacks.values():
            train_stacked(of_one_shape)
        fits = [fit for fit, phase in begun if math.isfinite(phase.net.best_score_)]


def last_step(model):
    return model[-1] if isinstance(model, Pipeline) else model


def is_stackable(model):
    """Whether a model's fit is ours, and can be one of a stacked model."""
    is_ours = isinstance(model, VAETransformer) and type(model).fit is VAETransformer.fit
    return is_ours and not has_callbacks(model) and can_be_stacked(model)
