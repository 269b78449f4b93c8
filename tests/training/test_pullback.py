"""Gradients by hand: those of autograd for the plain version of each part, and of the whole step; who takes them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skvae import VAETransformer
from skvae._model.build import build_vae
from skvae._training import step as step_file
from skvae._training.adamw import AdamW
from skvae._training.pullback import is_by_hand
from skvae._training.step import Step
from skvae.likelihoods import DiagonalGaussianLikelihood, IsotropicGaussianLikelihood
from skvae.networks import ACTIVATIONS, has_pullback, with_pullback
from skvae.networks._base import Dense
from skvae.objectives import ELBO, IWAE, InfoVAE
from skvae.posteriors import POSTERIORS, DiagPosterior

from ..conftest import curved_spectra, small

GAUSSIANS = ("gaussian", "gaussian_isotropic", "gaussian_diag", "gaussian_unit")
P = 7


def random_module(**options):
    """A float64 module with random weights, buffers of the linear start included, in training mode."""
    settings = {
        **{"n_components": 3, "posterior": "diag", "likelihood": "gaussian", "encoder": "mlp", "decoder": "mlp"},
        **{"input_shape": None, "hidden_layer_sizes": (5, 4), "activation": "silu", "init": "linear"},
        **{"precision": "float32", "mean": np.zeros(P), "scale": np.linspace(0.5, 2.0, P), "seed": 0},
        **options,
    }
    module = build_vae(**settings).double().train()
    generator = torch.Generator().manual_seed(1)
    random = {name: 0.5 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
              for name, value in module.named_parameters()}  # fmt: skip
    for name, value in module.named_buffers():
        if name.rpartition(".")[-1] in ("start_weight", "start_bias", "unit"):
            random[name] = 0.3 + torch.rand(value.shape, generator=generator, dtype=value.dtype)
    module.load_state_dict(random, strict=False)
    return module


def batch(n=6, d=3):
    generator = torch.Generator().manual_seed(2)
    u, eps = (torch.randn(n, size, generator=generator, dtype=torch.float64) for size in (P, d))
    return 3 * u, 3 * eps, torch.rand(n, generator=generator, dtype=torch.float64)  # some are clipped


def gradients(module, objective, by_hand, batch, kl_scale=1.0):
    module = copy.deepcopy(module)
    step = Step(module, objective, AdamW(module.parameters()), kl_scale=kl_scale)
    step.begin_epoch()
    assert step.is_by_hand
    step.is_by_hand = by_hand
    terms = step.gradients(*batch)
    return [*terms, *(p.grad for p in module.parameters())]


def assert_same_gradients(module, objective, batch, **options):
    by_hand, by_autograd = (gradients(module, objective, answer, batch, **options) for answer in (True, False))
    assert len(by_hand) == 2 + len(list(module.parameters()))
    for ours, theirs in zip(by_hand, by_autograd, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("likelihood", GAUSSIANS)
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("d", [1, 2, 5, 20])
def test_a_step_s_gradients_are_autograd_s(posterior, likelihood, d):
    """In float64, to rounding; of a weighted batch, with inputs that are clipped."""
    module = random_module(n_components=d, posterior=posterior, likelihood=likelihood)
    assert_same_gradients(module, ELBO(beta=1.7), batch(d=d))


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("init", ["linear", "random"])
@pytest.mark.parametrize("sizes", [(), (5,), (5, 4, 3)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_gradients_are_autograd_s(activation, sizes, init, n):
    module = random_module(activation=activation, hidden_layer_sizes=sizes, init=init)
    assert_same_gradients(module, ELBO(), batch(n)[:2])


@pytest.mark.parametrize("likelihood", ["gaussian_isotropic", "gaussian_diag"])
def test_noise_below_its_floor_has_no_gradient(likelihood):
    module = random_module(likelihood=likelihood)
    module.likelihood.log_v.data.flatten()[0] = -30.0
    assert_same_gradients(module, ELBO(), batch())
    assert gradients(module, ELBO(), True, batch())[-1].flatten()[0] == 0


def test_the_warm_up_s_share_of_beta_may_be_a_tensor():
    assert_same_gradients(random_module(), ELBO(beta=2.0), batch(), kl_scale=torch.tensor(0.3, dtype=torch.float64))


def test_gradients_are_added_to_those_that_are_there():
    module = random_module()
    step = Step(module, ELBO(), AdamW(module.parameters()))
    step.begin_epoch()
    step.gradients(*batch())
    once = [p.grad.clone() for p in module.parameters()]
    step.gradients(*batch())
    for p, grad in zip(module.parameters(), once, strict=True):
        torch.testing.assert_close(p.grad, 2 * grad)


@pytest.mark.parametrize("family", POSTERIORS.values(), ids=POSTERIORS)
@pytest.mark.parametrize("d", [1, 2, 5, 20])
def test_draws_have_autograd_s_gradient_also_at_extremes(family, d):
    """Finite, and autograd's of the plain draw and KL, where rho rounds to 1 and the noise nearly vanishes."""
    generator = torch.Generator().manual_seed(3)
    raw, eps = (torch.randn(4, size, generator=generator, dtype=torch.float64) for size in (family.n_raw(d), d))
    to_z, to_kl = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, d), (4,)))
    for spread in (1.0, 20.0):
        leaf = (spread * raw).requires_grad_()
        q = family(leaf, d)
        plain = q.rsample(eps), q.kl()
        (theirs,) = torch.autograd.grad(plain, leaf, (to_z, to_kl))
        with torch.no_grad():
            z, kl, pullback = family(leaf.detach(), d).draw_with_pullback(eps)
            ours = pullback(to_z, to_kl)
        size = theirs.abs().amax(-1, keepdim=True).clamp(min=1)  # of a row, whose terms cancel in part
        for a, b in ((z, plain[0]), (kl, plain[1]), (ours / size, theirs / size)):
            assert torch.isfinite(a).all()
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


class WiderPosterior(DiagPosterior):
    def kl(self):
        return 2 * super().kl()


class SharperNoise(IsotropicGaussianLikelihood):
    def log_variance(self):
        return super().log_variance() - 1


class TwiceTheDensity(DiagonalGaussianLikelihood):
    def log_prob(self, raw, u):
        return 2 * super().log_prob(raw, u)


class SquaredKL(ELBO):
    def rows(self, output, kl_scale=1.0):
        return output.log_likelihood - output.kl**2


class OwnLayer(Dense):
    def forward(self, input):
        return 2 * super().forward(input)


def own_network(*layers):
    return lambda n_in, n_out: nn.Sequential(nn.Linear(n_in, 4), *layers, nn.Linear(4, n_out))


PARTS = {
    "a posterior with another scale": {"posterior": WiderPosterior},
    "a likelihood with another noise": {"likelihood": SharperNoise},
    "a likelihood with another density": {"likelihood": TwiceTheDensity},
    "a likelihood without a pullback": {"likelihood": "student_t"},
    "a layer of one's own": {"encoder": own_network(OwnLayer(4, 4)), "init": "random"},
    "a random layer": {"decoder": own_network(nn.Dropout()), "init": "random"},
    "a layer in place": {"decoder": own_network(nn.SiLU(inplace=True)), "init": "random"},
    "a convolution": {"encoder": "conv1d"},
}


@pytest.mark.parametrize("part", PARTS)
def test_parts_that_may_do_anything_are_left_to_autograd(part):
    assert not is_by_hand(random_module(**PARTS[part]), ELBO())


def test_a_network_of_known_layers_is_by_hand():
    module = random_module(encoder=own_network(nn.SiLU(), nn.Linear(4, 4), nn.Tanh()), init="random")
    assert_same_gradients(module, ELBO(), batch())


OTHERS = {
    **{"IWAE": IWAE(), "InfoVAE": InfoVAE(), "free bits": ELBO(free_bits=0.1)},
    **{"a subclass": SquaredKL(), "a function": lambda *_: 0.0},
}


@pytest.mark.parametrize("objective", OTHERS)
def test_other_objectives_are_left_to_autograd(objective):
    assert not is_by_hand(random_module(), OTHERS[objective])


HOOKS = {
    "forward": lambda module: module.encoder.net[0].register_forward_hook(lambda *_: None),
    "before forward": lambda module: module.register_forward_pre_hook(lambda *_: None),
    "backward": lambda module: module.decoder.net[0].register_full_backward_hook(lambda *_: None),
    "gradient": lambda module: module.decoder.weight.register_hook(lambda grad: 2 * grad),
    "after the gradient": lambda module: module.encoder.bias.register_post_accumulate_grad_hook(lambda p: None),
    "frozen": lambda module: module.encoder.net[0].weight.requires_grad_(False),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_steps_that_somebody_listens_to_are_left_to_autograd(hook):
    """From the next epoch on."""
    module = random_module()
    step = Step(module, ELBO(), AdamW(module.parameters()))
    step.begin_epoch()
    assert step.is_by_hand
    HOOKS[hook](module)
    step.begin_epoch()
    assert not step.is_by_hand


def test_layers_in_place_have_no_pullback():
    assert has_pullback(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    assert not has_pullback(nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pullback_of_a_network_is_its_derivative(activation):
    """By differences, in float64."""
    net = nn.Sequential(Dense(3, 4), ACTIVATIONS[activation](), Dense(4, 2)).double().train()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    class ByHand(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, *parameters):
            y, ctx.pullback = with_pullback(net, x, True)
            return y

        @staticmethod
        def backward(ctx, grad):
            found = {}
            to_x = ctx.pullback(grad, found.__setitem__)
            return to_x, *(found[p] for p in net.parameters())

    assert torch.autograd.gradcheck(ByHand.apply, (x.requires_grad_(), *net.parameters()))


@pytest.mark.parametrize("params", [{}, {"posterior": "rho"}, {"posterior": "full", "kl_warmup": 2}], ids=str)
def test_a_fit_by_hand_is_the_fit_by_autograd(monkeypatch, params):
    """Within 1 % of a posterior standard deviation after 5 epochs; rounding grows."""
    X = curved_spectra(100)
    answers = []

    def watched(*args):
        answers.append(is_by_hand(*args))
        return answers[-1]

    monkeypatch.setattr(step_file, "is_by_hand", watched)
    ours = VAETransformer(2, **small(**params)).fit(X)
    assert all(answers)
    monkeypatch.setattr(step_file, "is_by_hand", lambda *_: False)
    theirs = VAETransformer(2, **small(**params)).fit(X)
    scale = np.sqrt(np.diagonal(ours.posterior_covariance(X), axis1=1, axis2=2))
    assert (abs(ours.transform(X) - theirs.transform(X)) < 0.01 * scale).all()
