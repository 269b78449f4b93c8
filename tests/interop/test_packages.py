"""Other packages' pipelines, searches, stores and preprocessing with the estimator inside."""

import chemotools.baseline
import chemotools.derivative
import chemotools.scatter
import dask.array
import mlflow
import numpy as np
import optuna
import pytest
import skops.io
from dask_ml.wrappers import Incremental, ParallelPostFit
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from numpy.testing import assert_array_equal
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna_integration import OptunaSearchCV
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer

from ..conftest import curved_spectra, small


@pytest.fixture
def X():
    return curved_spectra(150, 24)


def test_optuna_searches_posteriors_rates_and_components(X):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {
        "vae__n_components": IntDistribution(1, 4),
        "vae__posterior": CategoricalDistribution(["diag", "rho", "full"]),
        "vae__learning_rate_init": FloatDistribution(1e-4, 1e-2, log=True),
    }
    pipeline = Pipeline([("scale", StandardScaler()), ("vae", VAETransformer(**small(max_iter=3)))])
    search = OptunaSearchCV(pipeline, space, n_trials=8, cv=2, random_state=0).fit(X)
    scores = [trial.value for trial in search.study_.trials]
    assert len(scores) == 8 and np.isfinite(scores).all()
    assert search.best_score_ == max(scores) > min(scores)
    assert set(search.best_params_) == set(space)
    assert search.transform(X).shape == (150, search.best_params_["vae__n_components"])


@pytest.mark.parametrize("serialization_format", ["cloudpickle", "skops"])
def test_mlflow_stores_a_pipeline_and_gives_it_back(X, tmp_path, serialization_format):
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    experiment = mlflow.create_experiment("spectra", artifact_location=(tmp_path / "artifacts").as_uri())
    pipeline = make_pipeline(StandardScaler(), VAETransformer(2, **small())).fit(X)
    options = {"pip_requirements": ["skvae"], "serialization_format": serialization_format}
    if serialization_format == "skops":
        options["skops_trusted_types"] = ["skvae._vae.VAETransformer"]
    with mlflow.start_run(experiment_id=experiment):
        mlflow.log_params(pipeline[-1].get_params())
        mlflow.log_metric("nats", pipeline.score(X))
        info = mlflow.sklearn.log_model(pipeline, name="vae", **options)
    loaded = mlflow.sklearn.load_model(info.model_uri)
    assert_array_equal(loaded.transform(X), pipeline.transform(X))
    assert loaded.score(X) == pipeline.score(X)


def test_skops_stores_a_pipeline_with_one_type_to_trust(X):
    pipeline = make_pipeline(StandardScaler(), VAETransformer(2, **small())).fit(X)
    data = skops.io.dumps(pipeline)
    trusted = skops.io.get_untrusted_types(data=data)
    assert trusted == ["skvae._vae.VAETransformer"]
    assert_array_equal(skops.io.loads(data, trusted=trusted).transform(X), pipeline.transform(X))


def test_imblearn_resamples_after_the_transformer_and_before_it(X):
    y = (np.arange(150) % 10 == 0).astype(int)
    oversampler = RandomOverSampler(random_state=0)
    after = make_imblearn_pipeline(VAETransformer(3, **small()), oversampler, LogisticRegression()).fit(X, y)
    assert after.predict(X).shape == (150,)
    before = make_imblearn_pipeline(oversampler, VAETransformer(3, **small())).fit(X, y)
    resampled, _ = oversampler.fit_resample(X, y)
    assert len(resampled) > 150
    assert_array_equal(before.transform(X), VAETransformer(3, **small()).fit(resampled).transform(X))


def test_dask_ml_incremental_is_partial_fit_of_each_block(X):
    blocks = dask.array.from_array(X, chunks=(50, 24))
    theirs = Incremental(VAETransformer(2, **small()), shuffle_blocks=False).fit(blocks)
    ours = VAETransformer(2, **small())
    for block in np.split(X, 3):
        ours.partial_fit(block)
    assert_array_equal(theirs.estimator_.transform(X), ours.transform(X))


def test_dask_ml_parallel_post_fit_transforms_each_block(X):
    blocks = dask.array.from_array(X, chunks=(64, 24))
    vae = VAETransformer(2, **small())
    Z = ParallelPostFit(vae).fit(X).transform(blocks)
    assert isinstance(Z, dask.array.Array) and Z.numblocks[0] == 3
    assert_array_equal(Z.compute(), vae.fit(X).transform(X))  # a complete row's bits do not depend on its block


@pytest.mark.parametrize(
    "step",
    [
        chemotools.scatter.StandardNormalVariate(),
        chemotools.scatter.MultiplicativeScatterCorrection(),
        chemotools.derivative.SavitzkyGolay(window_size=7, polynomial_order=2, derivate_order=1),
        chemotools.baseline.LinearCorrection(),
    ],
    ids=lambda step: type(step).__name__,
)
def test_chemotools_preprocesses_in_front(X, step):
    pipeline = make_pipeline(step, VAETransformer(3, **small())).set_output(transform="pandas")
    Z = pipeline.fit_transform(X)
    assert list(Z.columns) == ["vaetransformer0", "vaetransformer1", "vaetransformer2"]
    preprocessed = step.fit_transform(X)
    np.testing.assert_allclose(Z, VAETransformer(3, **small()).fit(np.asarray(preprocessed)).transform(preprocessed))
    assert np.isfinite(pipeline.score(X))


def test_a_dask_array_is_fitted_as_its_values_each_block_computed_once(X):
    computed = []

    def block(rows):
        computed.append(len(rows))
        return rows

    lazy = dask.array.from_array(X, chunks=(40, 24)).map_blocks(block, meta=np.empty((0, 0)))
    vae, expected = VAETransformer(2, **small()).fit(lazy), VAETransformer(2, **small()).fit(X)
    assert computed == [40, 40, 40, 30]
    assert_array_equal(vae.transform(X), expected.transform(X))
    assert_array_equal(vae.transform(dask.array.from_array(X, chunks=(64, 5))), expected.transform(X))
