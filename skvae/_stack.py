"""Parameters of nets of one shape, side by side: a step of all of them is one step, by torch.func.vmap."""

import copy
from collections import defaultdict

import torch
from torch.func import functional_call, vmap

from ._step import draw_of
from .networks import LinearPath


class Stack:
    """Parameters of nets of one shape as the rows of one matrix, and what AdamW knows of them.

    Parameters
    ----------
    nets : list of VAENet
        Whose module and optimizer are new.
    """

    def __init__(self, nets):
        names = {id(p): name for name, p in nets[0].module_.named_parameters()}
        groups = nets[0].optimizer_.param_groups
        # The optimizer's groups, one after the other.
        self.shapes = {names[id(p)]: p.shape for group in groups for p in group["params"]}
        self.sizes = [sum(p.numel() for p in group["params"]) for group in groups]
        self.options = {"beta1": groups[0]["betas"][0], "beta2": groups[0]["betas"][1], "eps": groups[0]["eps"]}
        self.decay = [[group["weight_decay"] for group in net.optimizer_.param_groups] for net in nets]
        self.flat = torch.stack([self._row(net) for net in nets])
        self.moments = [torch.zeros_like(self.flat) for _ in range(2)]
        self.steps = torch.zeros(len(nets), device=self.flat.device)
        self.buffers = {
            name: torch.stack([dict(net.module_.named_buffers())[name] for net in nets])
            for name in dict(nets[0].module_.named_buffers())
        }
        self._view()
        # Without its memory, and with nothing that differs between the nets.
        self.module = copy.deepcopy(nets[0].module_).to("meta").train()
        for layer in self.module.modules():
            if isinstance(layer, LinearPath):
                layer.in_place = False
        self.objective = copy.copy(nets[0].criterion_)
        self.objective.beta = self.objective.kl_weight = 1.0  # beta comes with the share

    def _row(self, net):
        parameters = dict(net.module_.named_parameters())
        return torch.cat([parameters[name].detach().flatten() for name in self.shapes])

    def _view(self):
        """Views of what belongs to a net and a group of the optimizer, made once: the kernel takes lists."""
        self.gradient = torch.zeros_like(self.flat)
        matrices = [self.flat, self.gradient, *self.moments]
        self.views = [[row.split(self.sizes) for row in matrix] for matrix in matrices]
        self.counts = list(self.steps.unbind())

    def give(self, net, row):
        """Let a net have a row of the matrix for its parameters."""
        parameters = dict(net.module_.named_parameters())
        with torch.no_grad():
            for name, value in self.parameters(row.unsqueeze(0)).items():
                parameters[name].copy_(value[0])

    def part(self, places):
        """The nets at these places alone: copies."""
        part = copy.copy(self)
        part.flat, part.steps, part.decay = self.flat[places], self.steps[places], [self.decay[k] for k in places]
        part.moments = [moment[places] for moment in self.moments]
        part.buffers = {name: buffer[places] for name, buffer in self.buffers.items()}
        part._view()
        return part

    def take(self, places, part):
        """What a `part` has become."""
        self.flat[places], self.steps[places] = part.flat, part.steps
        for moment, of_part in zip(self.moments, part.moments, strict=True):
            moment[places] = of_part

    def parameters(self, flat):
        """Views of the rows of `flat`, by name."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return {
            name: part.unflatten(1, shape) if shape else part.squeeze(1)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def _draw(self, parameters, buffers, u, eps):
        def module(*batch):
            return functional_call(self.module, (parameters, buffers), batch, tie_weights=False)

        return draw_of(module, u, eps)

    def step(self, u, eps, worth, share, rates):
        """Take a step; return the sums (m, 2) of objective and KL over the rows before it.

        Parameters
        ----------
        u : Tensor of shape (m, n, p)
        eps : Tensor of shape (m, ..., n, d)
        worth : Tensor of shape (m, n)
            Of each row in the mean; 0 for those that fill a batch up.
        share : Tensor of shape (m,)
        rates : list of float
        """

        def terms(parameters, buffers, u, eps, share):
            draw = self._draw(parameters, buffers, u, eps)
            return self.objective(draw, share), draw.kl

        parameters = {n: p.detach().requires_grad_() for n, p in self.parameters(self.flat).items()}
        objective, kl = vmap(terms)(parameters, self.buffers, u, eps, share)
        gradients = torch.autograd.grad(objective, list(parameters.values()), -worth, allow_unused=True)
        for to, gradient in zip(self.parameters(self.gradient).values(), gradients, strict=True):
            if gradient is not None:
                to.copy_(gradient)
        self._update(rates)
        weight = worth * (worth > 0).sum(1, keepdim=True)  # of each row, of mean 1 over an epoch
        return torch.stack([(objective.detach() * weight).sum(1), (kl.detach() * weight).sum(1)], dim=1)

    @torch.no_grad()
    def _update(self, rates):
        """AdamW's: a call of its kernel for each learning rate and decay that nets have."""
        self.steps += 1
        alike = defaultdict(list)
        for k, rate in enumerate(rates):
            for group, decay in enumerate(self.decay[k]):
                alike[rate, decay].append((k, group))
        for (rate, decay), places in alike.items():
            weights, gradients, first, second = ([rows[k][group] for k, group in places] for rows in self.views)
            torch._fused_adamw_(
                weights,
                gradients,
                first,
                second,
                [],
                [self.counts[k] for k, _ in places],
                lr=rate,
                weight_decay=decay,
                amsgrad=False,
                maximize=False,
                **self.options,
            )

    @torch.no_grad()
    def evaluate(self, places, u, eps, worth, beta):
        """Mean objective of rows at full beta for the nets at `places`: `VAENet.evaluate` less its `log_volume`."""

        def rows(parameters, buffers, u, eps, beta):
            return self.objective.rows(self._draw(parameters, buffers, u, eps), beta)

        buffers = {name: buffer[places] for name, buffer in self.buffers.items()}
        of_rows = vmap(rows)(self.parameters(self.flat[places]), buffers, u, eps, beta)
        return (of_rows * worth).sum(1)
