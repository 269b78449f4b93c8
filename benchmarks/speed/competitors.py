"""What a user would otherwise train a VAE with: each function gives one that trains a module for EPOCHS epochs.

All take the module at its start, and its rows and a batch size, or its batches; what they return trains on at each call
and returns the last epoch's loss.
"""

import contextlib
import io
import logging
import math
import tempfile

import numpy as np
import torch
from skorch import NeuralNet
from torch.distributions import MultivariateNormal, kl_divergence
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 4
LOG_2PI = math.log(2 * math.pi)
RATE = 1e-4


def diagonal(module, x):
    """A draw of z and the KL of each row, as the tutorials write them."""
    mean, log_var = module.encoder(x).chunk(2, dim=-1)
    z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
    return z, -0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum(-1)


def lower_triangular(numbers, d):
    """Cholesky factors whose diagonal is exp(numbers / 2) of the first d numbers, filled by index."""
    L = numbers.new_zeros(*numbers.shape[:-1], d, d)
    row, column = torch.tril_indices(d, d, -1)
    L[..., row, column] = numbers[..., d:]
    L[..., range(d), range(d)] = torch.exp(0.5 * numbers[..., :d])
    return L


def standard_normal(d, device):
    return MultivariateNormal(torch.zeros(d, device=device), torch.eye(d, device=device))


def dense(module, x):
    """Every covariance by torch.distributions, a batch at once."""
    d = module.n_components
    raw = module.encoder(x)
    q = MultivariateNormal(raw[:, :d], scale_tril=lower_triangular(raw[:, d:], d))
    return q.rsample(), kl_divergence(q, standard_normal(d, x.device))


def row_by_row(module, x):
    """Every covariance as the forum thread has it: a loop over rows, each matrix built on the host."""
    d = module.n_components
    prior = standard_normal(d, x.device)
    draws, divergences = [], []
    for raw in module.encoder(x):
        L = lower_triangular(raw[d:].cpu(), d)
        q = MultivariateNormal(raw[:d], (L @ L.T).to(x.device))
        draws.append(q.rsample())
        divergences.append(kl_divergence(q, prior))
    return torch.stack(draws), torch.stack(divergences)


def loss_of(module, x, draw=diagonal):
    """Minus the ELBO with Gaussian noise, as the tutorials write it."""
    z, kl = draw(module, x)
    log_noise = module.likelihood.log_variance()
    log_likelihood = -0.5 * ((x - module.decoder(z)).pow(2) / log_noise.exp() + log_noise + LOG_2PI).sum(-1)
    return (kl - log_likelihood).mean() + module.log_volume


def loaded(u, batch):
    """A function that gives the shuffled batches of an epoch: DataLoader over a TensorDataset."""
    loader = DataLoader(TensorDataset(u), batch_size=batch, shuffle=True)
    return lambda: (x for (x,) in loader)


def by_hand(module, batches, draw=diagonal, epochs=EPOCHS):
    """Adam and loss.item() for the log, the tutorial's loop, over what `batches()` yields."""
    optimizer = torch.optim.Adam(module.parameters(), lr=RATE)
    device = next(module.parameters()).device

    def run():
        for _ in range(epochs):
            total = n = 0
            for x in batches():
                x = x.to(device)
                optimizer.zero_grad()
                loss = loss_of(module, x, draw)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(x)
                n += len(x)
        return total / n

    return run


class PlainSkorch(torch.nn.Module):
    """The module as skorch wants it: a forward that returns the loss."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, x):
        return loss_of(self.vae, x)


class LossItself(torch.nn.Module):
    def forward(self, loss, y):
        return loss


def skorch_as_it_comes(module, u, batch):
    net = NeuralNet(
        PlainSkorch(module),
        LossItself,
        optimizer=torch.optim.Adam,
        lr=RATE,
        batch_size=batch,
        max_epochs=EPOCHS,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    ).initialize()
    rows, targets = u.numpy(), np.zeros(len(u), np.float32)

    def run():
        net.partial_fit(rows, targets)
        return net.history[-1, "train_loss"]

    return run


def pythae_as_it_comes(module, u, batch):
    """pythae's VAE and trainer around our networks. Only its epochs are timed: no set-up, no copy of the best model.

    Its noise has variance one in u's units and its loss leaves out constants, so it ends at another loss.
    """
    logging.disable(logging.INFO)  # its loggers write to the console from the import on
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.net = module.encoder

        def forward(self, x):
            mean, log_var = self.net(x).chunk(2, dim=-1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.net = module.decoder

        def forward(self, z):
            return ModelOutput(reconstruction=self.net(z))

    config = VAEConfig(input_dim=(u.shape[1],), latent_dim=module.n_components, reconstruction_loss="mse")
    with tempfile.TemporaryDirectory() as folder:  # train_step writes nothing; setting up makes a folder
        trainer = BaseTrainer(
            VAE(config, Encoder(), Decoder()),
            BaseDataset(u, torch.zeros(len(u))),
            training_config=BaseTrainerConfig(folder, per_device_train_batch_size=batch, learning_rate=RATE),
        )
        trainer.prepare_training()

    def run():
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            for epoch in range(EPOCHS):
                loss = trainer.train_step(epoch)
        return loss

    return run
