"""scikit-learn's own checks, with every posterior and every likelihood, none skipped and one expected to fail."""

from functools import partial
from unittest import mock

import numpy as np
import pytest
import sklearn
import torch
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from sklearn.utils.fixes import parse_version

from skvae import VAETransformer
from skvae._data.rows import Rows
from skvae.likelihoods import LIKELIHOODS
from skvae.posteriors import POSTERIORS

from .conftest import PLAIN_LIKELIHOODS, takes

SETTINGS = {"hidden_layer_sizes": (8,), "max_iter": 2, "n_importance_samples": 4, "random_state": 0}


class UnitInterval(VAETransformer):
    """The checks' own data are of any sign, which some likelihoods rightly refuse: squash them after validation."""

    def _checked_rows(self, X, *args, **kwargs):
        with mock.patch.object(LIKELIHOODS[self.likelihood], "check"):
            rows = super()._checked_rows(X, *args, **kwargs)
        return Rows(rows.to_library_of_X(torch.sigmoid(rows[:])))


ANY_SIGN = np.array([-1.0, 1.0])
ESTIMATORS = [VAETransformer(posterior=name, **SETTINGS) for name in POSTERIORS]
ESTIMATORS += [
    (VAETransformer if takes(name, ANY_SIGN) else UnitInterval)(likelihood=name, **SETTINGS)
    for name in PLAIN_LIKELIHOODS
    if name != "gaussian"
]


TRAINING_IS_STOCHASTIC = {
    "check_sample_weight_equivalence_on_dense_data": "Batches and noise differ between rows that count twice and rows "
    "repeated, as in SGDClassifier. The start and a batch's gradient are equal: see test_weights."
}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda _: TRAINING_IS_STOCHASTIC)
def test_estimator_check(estimator, check):
    check(estimator)


def test_no_check_is_left_out():
    names = [check.func.__name__ for _, check in estimator_checks_generator(VAETransformer(**SETTINGS))]
    assert len(names) >= (47 if parse_version(sklearn.__version__) >= parse_version("1.9") else 44)
    for name in ("check_methods_subset_invariance", "check_fit_idempotent", "check_transformer_preserve_dtypes"):
        assert name in names


FURTHER = [
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_dataframe_column_names_consistency",
    "check_param_validation",
    "check_estimator_repr",
    "check_fit_score_takes_y",
    "check_inplace_ensure_writeable",
]


@pytest.mark.parametrize("name", [name for name in FURTHER if hasattr(estimator_checks, name)])
def test_further_check(name):
    check = partial(getattr(estimator_checks, name), "VAETransformer")
    check(VAETransformer(**SETTINGS))


def test_further_checks_exist():
    assert sum(hasattr(estimator_checks, name) for name in FURTHER) >= 9
