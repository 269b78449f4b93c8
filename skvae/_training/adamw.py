"""AdamW without its bookkeeping: for small networks, torch.optim's own costs more than the update."""

import torch

from .._data.devices import captures_on
from .torch_private import update_adamw


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW(fused=True)`, number for number, with one call of its kernel per group and nothing else.

    Steps are counted per group, not per parameter. Where work is captured, their number and the learning rate are
    tensors on the device, so that an update can be captured in a graph.

    References
    ----------
    Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2.
    """

    def __init__(self, params, **options):
        super().__init__(params, fused=True, **options)
        self._place_scalars()

    def __setstate__(self, state):
        torch.optim.Optimizer.__setstate__(self, state)  # AdamW's own looks for a step per parameter
        self._place_scalars()

    def _place_scalars(self):
        for group in self.param_groups:
            device, rate = group["params"][0].device, float(group["lr"])
            group["step"] = torch.tensor(float(group.get("step", 0.0)), dtype=torch.float32, device=device)
            group["lr"] = torch.tensor(rate, dtype=torch.float32, device=device) if captures_on(device) else rate

    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.apply_gradients()
        return loss

    def update(self):
        """Step and drop the gradients, without the hooks and the profiling of `step`."""
        self.apply_gradients()
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    @torch.no_grad()
    def apply_gradients(self):
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            moments = [self.state[p] or self._new_moments(p) for p in params]
            group["step"] += 1
            update_adamw(
                params,
                [p.grad for p in params],
                [m["exp_avg"] for m in moments],
                [m["exp_avg_sq"] for m in moments],
                [group["step"]] * len(params),
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
            )

    def _new_moments(self, p):
        self.state[p].update(exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        return self.state[p]

    def moment_shapes(self):
        """What the moments of each parameter look like, by its index in `state_dict`."""
        params = [p for group in self.param_groups for p in group["params"]]
        return {str(index): {"exp_avg": p, "exp_avg_sq": p} for index, p in enumerate(params)}
