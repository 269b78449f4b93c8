"""What callbacks and plug-ins do that a captured step must follow, on a GPU and on the device that is none."""

import torch
from skorch.callbacks import Callback


class EachEpoch(Callback):
    """Does something to the net before each epoch, which it is told."""

    def __init__(self, do):
        self.do = do

    def on_epoch_begin(self, net, **kwargs):
        self.do(net, len(net.history) - 1)


def thaw(net, epoch):
    for p in net.module_.decoder.parameters():
        p.requires_grad_(epoch > 2)


def anneal(net, epoch):
    net.criterion_.kl_weight = 1 / epoch


def pay(net, epoch):
    net.criterion_.free_bits = 0.2 * epoch


def decay(net, epoch):
    for group in net.optimizer_.param_groups:
        group["weight_decay"] = 5.0 * epoch


def replace_a_buffer(net, epoch):
    net.module_.decoder.start_bias = (1.01 * net.module_.decoder.start_bias).detach()


def drop_moments(net, epoch):
    net._restart_optimizer()


CHANGES = [thaw, anneal, pay, decay, replace_a_buffer, drop_moments]


class Waits(torch.nn.Linear):
    """Reads from the device."""

    def forward(self, x):
        return super().forward(x) * float(x.abs().max() > -1)


class Scaled(torch.nn.Linear):
    """Has a number of Python's."""

    factor = 1.0

    def forward(self, x):
        return super().forward(x) * self.factor


def rescale(net, epoch):
    net.module_.encoder.net.factor = 1 + 0.1 * epoch
