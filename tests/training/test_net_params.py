"""net_params: each parameter of skorch.NeuralNet works, or is refused with the one that does its work."""

import inspect

import pytest
import torch
from skorch import NeuralNet

from skvae import VAETransformer
from skvae._parameters import NET_PARAMS
from skvae._training.net import VAENet

from ..conftest import small

WORKING = {
    "optimizer": torch.optim.SGD,
    "optimizer__momentum": 0.5,
    "lr": 1e-5,
    "lr_scheduler": None,
    "verbose": 0,
    "use_caching": False,
    "torch_load_kwargs": {"weights_only": True},
}
REFUSED = sorted(name for name, instead in NET_PARAMS.items() if instead is not None)


def test_the_table_has_all_parameters_and_prefixes_of_the_net():
    parameters = inspect.signature(NeuralNet).parameters.keys() | inspect.signature(VAENet).parameters.keys()
    net = VAETransformer(2, **small(max_iter=0)).fit([[1.0, 2.0], [2.0, 1.0], [0.0, 3.0]]).net_
    assert parameters - {"kwargs"} | set(net.prefixes_) <= set(NET_PARAMS)
    assert {name.partition("__")[0] for name in WORKING} == {n for n, instead in NET_PARAMS.items() if instead is None}


@pytest.mark.parametrize("name", [*REFUSED, "iterator_train__drop_last", "module__n_components", "callbacks__x__y"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_what_training_does_not_heed_is_refused_with_what_does_its_work(spectra, method, name):
    instead = NET_PARAMS[name.partition("__")[0]]
    assert instead.partition(" ")[0].strip(",") in {*VAETransformer().get_params(), "X"}
    with pytest.raises(ValueError, match=f"{name!r}: pass {instead}"):
        getattr(VAETransformer(2, **small(net_params={name: None})), method)(spectra)


def test_an_unknown_name_is_refused(spectra):
    with pytest.raises(ValueError, match="no parameter of skorch"):
        VAETransformer(2, **small(net_params={"learning_rate": 1.0})).fit(spectra)


def test_the_others_reach_the_net(spectra):
    net = VAETransformer(2, **small(max_iter=1, refit=False, net_params=WORKING)).fit(spectra).net_
    group = net.optimizer_.param_groups[0]
    assert type(net.optimizer_) is torch.optim.SGD
    assert (group["momentum"], group["lr"]) == (0.5, 1e-5)
    for name in ("lr_scheduler", "verbose", "use_caching", "torch_load_kwargs"):
        assert getattr(net, name) == WORKING[name]
