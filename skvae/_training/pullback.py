"""The gradients of a training step by hand: each part of the model takes them back, without autograd's bookkeeping."""

import torch

from .._model.module import VAEModule
from ..networks import has_pullback, with_pullback
from ..objectives import ModelOutput


def is_by_hand(module, objective):
    """Whether each part of the model, and the objective, takes gradients back by itself, and nobody listens to them."""
    return (
        type(module) is VAEModule
        and not is_hooked(module)
        and has_pullback(module.encoder)
        and has_pullback(module.decoder)
        and stands_for(module.posterior, "draw_with_pullback", "__init__", "rsample", "scale", "kl", "variance")
        and stands_for(type(module.likelihood), "pull_back", "log_prob")
        and stands_for(type(module.likelihood), "pull_back_noise", "log_variance")
        and stands_for(type(objective), "pull_back", "__call__", "rows", "penalty")
        and not objective.free_bits
    )


def is_hooked(module):
    """Whether a hook would see, or change, what autograd does, or a parameter has no gradient."""
    layers, parameters = list(module.modules()), list(module.parameters())
    return (
        any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
        or any(layer._backward_hooks or layer._backward_pre_hooks for layer in layers)
        or any(p._backward_hooks or p._post_accumulate_grad_hooks or not p.requires_grad for p in parameters)
    )


def stands_for(kind, by_hand, *names):
    """Whether a class's method by hand is of the same class as the methods that it stands for, or of a later one."""

    def place(name):
        return next((i for i, each in enumerate(getattr(kind, "__mro__", ())) if name in vars(each)), None)

    return place(by_hand) is not None and all(place(by_hand) <= place(name) for name in names)


@torch.no_grad()
def add_gradients(module, objective, u, eps, kl_scale, row_weight):
    """Add to the parameters' gradients those of the objective's sum over rows, each times its weight.

    Parameters
    ----------
    module, objective
        For which `is_by_hand`.
    u : Tensor of shape (n, p)
    eps : Tensor of shape (n, d)
    kl_scale : float or Tensor of shape ()
    row_weight : Tensor of shape (n,)

    Returns
    -------
    objective, kl : Tensor of shape (n,)
    """
    likelihood = module.likelihood
    raw, pull_back_encoder = with_pullback(module.encoder, likelihood.inputs(u), False)
    z, kl, pull_back_draw = module.posterior(raw, module.n_components).draw_with_pullback(eps)
    outputs, pull_back_decoder = with_pullback(module.decoder, z, True)
    log_likelihood = likelihood.log_prob(outputs, u)
    rows = objective(ModelOutput(log_likelihood, None, kl, z, eps), kl_scale)

    to_log_likelihood, to_kl = objective.pull_back(row_weight, kl_scale)
    to_outputs = likelihood.pull_back(to_log_likelihood, outputs, u, add)
    to_raw = pull_back_draw(pull_back_decoder(to_outputs, add), to_kl)
    pull_back_encoder(to_raw, add)
    return rows, kl


def add(parameter, gradient):
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
