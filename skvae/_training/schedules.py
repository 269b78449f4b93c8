"""How the learning rate and the weight of the KL term change over a fit."""

import math


def one_cycle(progress, warmup=0.1):
    """Share of the greatest learning rate: a linear rise, then half a cosine to 0.

    (Smith and Topin, Super-convergence: very fast training of neural networks using large learning rates, 2019.)
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def kl_scale(epoch, batch, n_batches, n_warmup_epochs):
    """Share of the objective's beta in a step of the KL warm-up: it rises from 0 to 1 over the first epochs.

    Parameters
    ----------
    epoch : int
        From 1 on.
    batch : int
        From 0 on.
    n_batches : int
        Of an epoch.
    n_warmup_epochs : int
        0: there is no warm-up.
    """
    if not n_warmup_epochs:
        return 1.0
    n_epochs_done = epoch - 1 + (batch + 1) / n_batches
    return min(1.0, n_epochs_done / n_warmup_epochs)
