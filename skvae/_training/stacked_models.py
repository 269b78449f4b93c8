"""Parameters of models of one shape, side by side: a step of all of them is one step, by torch.func.vmap."""

import copy
from collections import defaultdict

import torch
from torch.func import functional_call, vmap

from ..networks import LinearResidual
from .step import model_output
from .torch_private import update_adamw


class StackedModels:
    """The parameters of models of one shape as the rows of one matrix, with AdamW's moments of them.

    Parameters
    ----------
    nets : list of VAENet
        Whose modules and optimizers are new.
    """

    def __init__(self, nets):
        names = {id(p): name for name, p in nets[0].module_.named_parameters()}
        groups = nets[0].optimizer_.param_groups
        self.shapes = {names[id(p)]: p.shape for group in groups for p in group["params"]}  # group after group
        self.group_sizes = [sum(p.numel() for p in group["params"]) for group in groups]
        self.options = {"beta1": groups[0]["betas"][0], "beta2": groups[0]["betas"][1], "eps": groups[0]["eps"]}
        self.decay = [[group["weight_decay"] for group in net.optimizer_.param_groups] for net in nets]
        self.flat = torch.stack([self._flat_parameters(net) for net in nets])  # (m, number of parameters)
        self.moments = [torch.zeros_like(self.flat) for _ in range(2)]
        self.steps = torch.zeros(len(nets), dtype=torch.float32, device=self.flat.device)
        self.buffers = {
            name: torch.stack([dict(net.module_.named_buffers())[name] for net in nets])
            for name in dict(nets[0].module_.named_buffers())
        }
        self._make_views()
        # A module without memory, and with nothing that differs between the models.
        self.module = copy.deepcopy(nets[0].module_).to("meta").train()
        for layer in self.module.modules():
            if isinstance(layer, LinearResidual):
                layer.in_place = False
        self.objective = copy.copy(nets[0].criterion_)
        self.objective.beta = self.objective.kl_weight = 1.0  # beta comes with the KL scale

    def _flat_parameters(self, net):
        parameters = dict(net.module_.named_parameters())
        return torch.cat([parameters[name].detach().flatten() for name in self.shapes])

    def _make_views(self):
        """Views of what belongs to a model and a group of the optimizer, made once: the kernel takes lists."""
        self.gradient = torch.zeros_like(self.flat)
        matrices = [self.flat, self.gradient, *self.moments]
        self.views = [[row.split(self.group_sizes) for row in matrix] for matrix in matrices]
        self.counts = list(self.steps.unbind())

    def give_parameters(self, net, row):
        """Give a net the parameters in a row of the matrix."""
        parameters = dict(net.module_.named_parameters())
        with torch.no_grad():
            for name, value in self.parameters(row.unsqueeze(0)).items():
                parameters[name].copy_(value[0])

    def select(self, places):
        """A copy of the models at these places alone."""
        part = copy.copy(self)
        part.flat, part.steps, part.decay = self.flat[places], self.steps[places], [self.decay[k] for k in places]
        part.moments = [moment[places] for moment in self.moments]
        part.buffers = {name: buffer[places] for name, buffer in self.buffers.items()}
        part._make_views()
        return part

    def assign(self, places, part):
        """Take over what the models at these places have become in a `part`."""
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

    def _output(self, parameters, buffers, u, eps):
        def module(*inputs):
            return functional_call(self.module, (parameters, buffers), inputs, tie_weights=False)

        return model_output(module, u, eps)

    def step(self, u, eps, row_weight, kl_scale, rates):
        """Take a step; return the sums (m, 2) of objective and KL over the rows before it.

        Parameters
        ----------
        u : Tensor of shape (m, n, p)
        eps : Tensor of shape (m, ..., n, d)
        row_weight : Tensor of shape (m, n)
            Of each row in the mean; 0 for rows that only fill a batch up.
        kl_scale : Tensor of shape (m,)
            Weight of the KL term, beta included.
        rates : list of float
        """

        def terms(parameters, buffers, u, eps, kl_scale):
            output = self._output(parameters, buffers, u, eps)
            return self.objective(output, kl_scale), output.kl

        parameters = {n: p.detach().requires_grad_() for n, p in self.parameters(self.flat).items()}
        objective, kl = vmap(terms)(parameters, self.buffers, u, eps, kl_scale)
        gradients = torch.autograd.grad(objective, list(parameters.values()), -row_weight, allow_unused=True)
        for to, gradient in zip(self.parameters(self.gradient).values(), gradients, strict=True):
            if gradient is not None:
                to.copy_(gradient)
        self._update(rates)
        weight = row_weight * (row_weight > 0).sum(1, keepdim=True)  # of each row, of mean 1 over an epoch
        return torch.stack([(objective.detach() * weight).sum(1), (kl.detach() * weight).sum(1)], dim=1)

    @torch.no_grad()
    def _update(self, rates):
        """AdamW's update: one call of its kernel for each pair of learning rate and decay that models have."""
        self.steps += 1
        groups_by_options = defaultdict(list)
        for k, rate in enumerate(rates):
            for group, decay in enumerate(self.decay[k]):
                groups_by_options[rate, decay].append((k, group))
        for (rate, decay), places in groups_by_options.items():
            weights, gradients, first, second = ([rows[k][group] for k, group in places] for rows in self.views)
            counts = [self.counts[k] for k, _ in places]
            update_adamw(weights, gradients, first, second, counts, lr=rate, weight_decay=decay, **self.options)

    @torch.no_grad()
    def score_rows(self, places, u, eps, beta):
        """Objective (m, n) of rows at full beta for the models at `places`: `VAENet.score_rows`."""

        def objective_of_rows(parameters, buffers, u, eps, beta):
            return self.objective.rows(self._output(parameters, buffers, u, eps), beta)

        buffers = {name: buffer[places] for name, buffer in self.buffers.items()}
        return vmap(objective_of_rows)(self.parameters(self.flat[places]), buffers, u, eps, beta).double()
