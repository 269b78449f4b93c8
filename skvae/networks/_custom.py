"""User-defined networks: a callable (n_in, n_out) -> Module."""

import threading
from collections.abc import Callable

import torch
from torch import Tensor, nn

BUILDING = threading.Lock()  # torch's layers draw their weights from the global generator


class Gated(nn.Module):
    """gate * net(x), with a gate per output that starts at 0, so that any network adds nothing at the start.

    References
    ----------
    Bachlechner et al., ReZero is all you need, 2021.
    """

    def __init__(self, net: nn.Module, n_out: int) -> None:
        super().__init__()
        self.net = net
        self.gate = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.gate * self.net(x)


def custom_network(build: Callable[[int, int], nn.Module], n_in: int, n_out: int, seed: int, name: str) -> nn.Module:
    """The Module that a callable returns, drawn from `seed` without changing the global generator.

    Raises
    ------
    ValueError
        If the callable does not return a Module that maps (n, n_in) to (n, n_out).
    """
    try:
        with BUILDING, torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs, too
            net = build(n_in, n_out)
            training = net.training
            given = tuple(net.eval()(torch.zeros(2, n_in)).shape)
            net.train(training)
        if given != (2, n_out):
            raise TypeError(f"({n_in}, {n_out}) gives one that maps (2, {n_in}) to {given}")
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name}={build!r} must be a name or a callable (n_in, n_out) that returns a torch Module "
            f"from (n, n_in) to (n, n_out): {error}"
        ) from error
    return net
