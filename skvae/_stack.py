"""Parameters of nets of one shape, side by side: a step of all of them is one step, by torch.func.vmap."""

import copy

import torch
from torch.func import functional_call, vmap

from ._step import draw_of
from .networks import LinearPath

BETAS, EPS = (0.9, 0.999), 1e-8  # AdamW's defaults


class Stack:
    """Parameters of nets of one shape as the rows of one matrix, with AdamW's moments.

    Parameters
    ----------
    nets : list of VAENet
        Whose module and optimizer are new.
    """

    def __init__(self, nets):
        named = [dict(net.module_.named_parameters()) for net in nets]
        self.shapes = {name: p.shape for name, p in named[0].items()}
        self.flat = torch.stack([torch.cat([p.detach().flatten() for p in params.values()]) for params in named])
        self.buffers = {
            name: torch.stack([dict(net.module_.named_buffers())[name] for net in nets])
            for name in dict(nets[0].module_.named_buffers())
        }
        self.decay = torch.stack([self._decay(net) for net in nets])
        self.moments = torch.zeros(2, *self.flat.shape, device=self.flat.device)
        self.steps = torch.zeros(len(nets), device=self.flat.device)
        # Without its memory, and with nothing that differs between the nets.
        self.module = copy.deepcopy(nets[0].module_).to("meta").train()
        for layer in self.module.modules():
            if isinstance(layer, LinearPath):
                layer.in_place = False
        self.objective = copy.copy(nets[0].criterion_)
        self.objective.beta = self.objective.kl_weight = 1.0  # beta comes with the share

    def _decay(self, net):
        """The weight decay of each parameter, as the optimizer's groups have it."""
        decays = {id(p): group["weight_decay"] for group in net.optimizer_.param_groups for p in group["params"]}
        return torch.cat([torch.full((p.numel(),), decays[id(p)], device=p.device) for p in net.module_.parameters()])

    def part(self, places):
        """The nets at these places alone: copies."""
        part = copy.copy(self)
        part.flat, part.decay, part.steps = self.flat[places], self.decay[places], self.steps[places]
        part.moments = self.moments[:, places]
        part.buffers = {name: buffer[places] for name, buffer in self.buffers.items()}
        return part

    def take(self, places, part):
        """What a `part` has become."""
        self.flat[places], self.steps[places], self.moments[:, places] = part.flat, part.steps, part.moments

    def parameters(self, flat):
        """Views of the rows of `flat`, by name."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = flat.split(sizes, dim=1)
        return {
            name: part.unflatten(1, shape) if shape else part.squeeze(1)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def _draw(self, parameters, buffers, u, eps):
        return draw_of(lambda *batch: functional_call(self.module, (parameters, buffers), batch), u, eps)

    def step(self, u, eps, worth, share, rate):
        """Take a step; return the sums (m, 2) of objective and KL over the rows before it.

        Parameters
        ----------
        u : Tensor of shape (m, n, p)
        eps : Tensor of shape (m, ..., n, d)
        worth : Tensor of shape (m, n)
            Of each row in the mean; 0 for those that fill a batch up.
        share, rate : Tensor of shape (m,)
        """

        def terms(parameters, buffers, u, eps, share):
            draw = self._draw(parameters, buffers, u, eps)
            return self.objective(draw, share), draw.kl

        parameters = {n: p.detach().requires_grad_() for n, p in self.parameters(self.flat).items()}
        objective, kl = vmap(terms)(parameters, self.buffers, u, eps, share)
        gradients = torch.autograd.grad(objective, list(parameters.values()), -worth, allow_unused=True)
        pairs = zip(parameters.values(), gradients, strict=True)
        flat = [(torch.zeros_like(p) if g is None else g).reshape(len(u), -1) for p, g in pairs]
        self._update(torch.cat(flat, dim=1), rate.unsqueeze(1))
        weight = worth * (worth > 0).sum(1, keepdim=True)  # of each row, of mean 1 over an epoch
        return torch.stack([(objective.detach() * weight).sum(1), (kl.detach() * weight).sum(1)], dim=1)

    def _update(self, gradient, rate):
        """AdamW's (Loshchilov and Hutter, 2019, algorithm 2), a rate a net."""
        self.steps += 1
        first, second = self.moments
        first.lerp_(gradient, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        corrected = [(1 - beta**self.steps).unsqueeze(1) for beta in BETAS]
        self.flat.mul_(1 - rate * self.decay)
        self.flat.sub_(rate / corrected[0] * first / (second.sqrt() / corrected[1].sqrt() + EPS))

    @torch.no_grad()
    def evaluate(self, u, eps, worth, beta):
        """Mean objective (m,) of rows at full beta, as `VAENet.evaluate` without its `log_volume`."""

        def rows(parameters, buffers, u, eps, beta):
            return self.objective.rows(self._draw(parameters, buffers, u, eps), beta)

        of_rows = vmap(rows)(self.parameters(self.flat), self.buffers, u, eps, beta)
        return (of_rows * worth).sum(1)
