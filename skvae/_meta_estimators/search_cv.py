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

from .._data.devices import resolve_device
from .._model.torch_defaults import torch_defaults
from .._parameters import PARAMETERS, can_be_stacked, fit_parameters
from .._sklearn_compat import _check_sample_weight, has_callbacks, safe_indexing
from .._training.fit import FitResult, NoisePhase, TrainedFit, draw_seed, fit_key, n_weights, phases
from .._training.n_components import with_n_components
from .._training.stacked_fit import train_stacked
from .._vae import VAETransformer

Self = TypeVar("Self", bound="VAESearchCV")  # typing has its own from Python 3.11 on

MOST_AT_ONCE = 64  # models that are trained side by side
LARGE = 100_000  # weights: with as many, the step of a CPU is mostly arithmetic, which stacking does not speed up


class VAESearchCV(GridSearchCV):
    """Grid search over a `VAETransformer`, or a Pipeline that ends in one, that trains many models at a time.

    Candidates and folds are trained together, as one stacked model, if they differ in no parameters but `random_state`,
    `beta`, `learning_rate_init`, `weight_decay`, `kl_warmup`, `max_iter`, `n_iter_no_change`, `tol`,
    `validation_fraction`, `early_stopping` and `refit`: a step of all of them costs little more than their arithmetic.
    Each model keeps its own rows, random generator, learning rates and early stopping, so that the result is the same
    as alone, to float32's rounding.

    Everything else is fitted one by one, as by `GridSearchCV`: estimators of other classes, subclasses with a `fit` of
    their own or parameters that `get_params` does not show, rows with missing values, free bits, "info", networks and
    classes of one's own, the estimator's callbacks, `net_params`, a `random_state` that is not an integer and, on a
    CPU, networks of 100,000 or more weights, which would gain nothing.

    The class has the parameters and attributes of `GridSearchCV`, and the attribute below.

    Parameters
    ----------
    estimator : VAETransformer or Pipeline
        The estimator whose parameters are searched.
    param_grid : dict or list of dict
        Names of parameters, and the values to try.
    scoring : str, callable, list, tuple, dict or None, default=None
        None takes the estimator's `score`, in nats per row.
    n_jobs : int or None, default=None
        Number of jobs for the other fits and for scoring; stacked models are trained in this process.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate on all of X, and how to choose it.
    cv : int, cross-validation generator, iterable or None, default=None
        As in `GridSearchCV`.
    verbose : int, default=0
        As in `GridSearchCV`.
    pre_dispatch : int or str, default="2*n_jobs"
        As in `GridSearchCV`.
    error_score : "raise" or number, default=nan
        Score of a fit that fails.
    return_train_score : bool, default=False
        Whether to score the training rows, too.

    Attributes
    ----------
    n_trained_together_ : int
        Number of the search's fits that were trained as part of a stacked model.

    Notes
    -----
    It pays where nets and tables are small, as stacked models share what a step takes beside its arithmetic. On one
    thread, 16 models with hidden layers of 32 take half to two thirds of `GridSearchCV`'s time, and nets of the default
    size eight to nine tenths. From 100,000 weights on, which the default net has beyond some 250 features, a CPU gains
    nothing, and `GridSearchCV` does as well. ``python -m benchmarks.speed.search`` measures it.

    In ``cv_results_["mean_fit_time"]``, models that were trained together have equal shares of their time. At most 64
    models are trained at once, and fewer if scikit-learn's ``working_memory`` has no room for their rows.

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
            Rows, as the estimator's `fit` takes them.
        y : array-like or None, default=None
            Target, for splitters and scorers that need it.
        **params : dict
            Parameters of the estimator's `fit`, such as `sample_weight`, and of the splitter. With any other than
            `sample_weight`, no models are trained together.

        Returns
        -------
        self : VAESearchCV
            The search.

        Raises
        ------
        TypeError
            If `estimator` is of another kind.
        ValueError
            If `sample_weight` does not have one weight per row.
        """
        if not any(isinstance(step, VAETransformer) for step in steps_of(self.estimator)):
            raise TypeError(
                "estimator must be a VAETransformer, or a Pipeline that ends in one, not "
                f"{type(self.estimator).__name__}: search it by scikit-learn's GridSearchCV."
            )
        if params.get("sample_weight") is not None:
            _check_sample_weight(params["sample_weight"], X)
        self.n_trained_together_ = 0
        if set(params) - {"sample_weight"}:
            return super().fit(X, y, **params)
        given_cv, given_estimator = self.cv, self.estimator
        # The splits are made once, as a splitter may be random and an iterator can be read only once.
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
            self._handover.queue = deque(plan.trained for candidate_plans in plans for plan in candidate_plans)
            results = evaluate_candidates(grid, **options)
            seconds = [sum(plan.seconds for plan in candidate_plans) for candidate_plans in plans]
            results["mean_fit_time"] += [total / len(self.cv) for total in seconds]
            return results

        super()._run_search(evaluate, **context)

    def _train(self, grid):
        """Train the models that can be trained together, as many at once as there is room for.

        Returns a list of the folds' plans for each candidate.
        """
        plans = [[Plan(train) for train, _ in self.cv] for _ in grid]
        stacks: dict[str, list] = defaultdict(list)
        for parameters, candidate_plans in zip(grid, plans, strict=True):
            model = clone(self.estimator).set_params(**clone(parameters, safe=False))
            last = last_step(model)
            if is_stackable(last):
                fixed = {name for name, parameter in PARAMETERS.items() if parameter.stacks != "each"}
                shape = {name: value for name, value in last.get_params(deep=False).items() if name in fixed}
                stacks[repr(sorted(shape.items()))] += [(model, plan) for plan in candidate_plans]
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
        """Yield lists of fits, each as long as there is room for."""
        all_room = get_config()["working_memory"] * 2**20
        fits: list[StackedFit] = []
        room = all_room
        for model, plan in stack:
            fit = self._prepare(model, plan)
            if fit is not None:
                fits.append(fit)
                room -= fit.n_bytes
            if fits and (len(fits) == MOST_AT_ONCE or room < 0):
                yield fits
                fits, room = [], all_room
        if fits:
            yield fits

    def _prepare(self, model, plan):
        """Return the `StackedFit` of a model and its plan, or None if it must be fitted alone."""
        X, y, weight = self._rows
        rows, model = safe_indexing(X, plan.train), clone(model)
        if isinstance(model, Pipeline):
            before, model = model[:-1], model[-1]
            if len(before):
                try:
                    rows = before.fit_transform(rows, None if y is None else safe_indexing(y, plan.train))
                except Exception:  # the fit will raise it again, and the search decides what follows
                    return None
        try:
            weight = None if weight is None else safe_indexing(weight, plan.train)
            data = model._training_rows(rows, weight, reset=True, y=None if y is None else safe_indexing(y, plan.train))
            params, _ = with_n_components(fit_parameters(model), data)
            n_features = data.rows.shape[1]
            device = resolve_device(model.device)
            is_large = n_weights(params, n_features) >= LARGE and str(device) == "cpu"
        except (TypeError, ValueError):
            return None
        if data.is_uneven or data.rows.is_streamed_to(device) or is_large:
            return None
        seed = draw_seed(params)
        n_bytes = 16 * len(data) * n_features  # the rows in double precision, and two scaled copies in single
        return StackedFit(plan, fit_key(params, data, seed), phases(params, data, seed), n_bytes)


class Handover:
    """Gives each clone of an estimator the fit that was trained for it, once there are such fits.

    Until then, each clone gets this handover.
    """

    def __init__(self):
        self.queue = None

    def __reduce__(self):
        # The searched estimator is sent to other processes for its score; the fits in the queue need not go with it.
        return Handover, ()

    def pass_on(self, cloned):
        if self.queue is None:
            cloned._handover = self
        elif self.queue:
            trained = self.queue.popleft()
            if trained is not None:
                cloned._trained_fit = trained


@dataclass
class Plan:
    """A candidate's fit on a fold: its rows and, if it was part of a stacked model, the trained fit and its seconds."""

    train: Any
    trained: TrainedFit | None = None
    seconds: float = 0.0


@dataclass
class StackedFit:
    """A fit that is trained beside others: its plan, its key, its phases, the memory it takes and its result."""

    plan: Plan
    key: Any
    phases: Any
    n_bytes: int
    result: FitResult | None = None


@torch_defaults()
def train_side_by_side(fits):
    """Train fits phase by phase. A fit that fails gets no `result`: fitted alone later, it raises its error."""
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
                if isinstance(phase, NoisePhase):
                    phase.run()
                    continue
                shape = phase.net.batch_size, phase.training.u.shape[1], phase.net.module_.n_components
                stacks[shape].append(phase)
        for of_one_shape in stacks.values():
            train_stacked(of_one_shape)
        fits = [fit for fit, phase in begun if math.isfinite(phase.net.best_score_)]


def steps_of(model):
    return [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]


def last_step(model):
    return steps_of(model)[-1]


def is_stackable(model):
    """Whether a model is fitted by `VAETransformer.fit`, shows all of its parameters, and can be part of a stack."""
    if not isinstance(model, VAETransformer) or type(model).fit is not VAETransformer.fit:
        return False
    shows_all = set(PARAMETERS) <= set(model.get_params(deep=False))
    return shows_all and not has_callbacks(model) and can_be_stacked(model)
