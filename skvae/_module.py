"""The model: encoder -> posterior -> decoder -> likelihood."""

import torch
from torch import nn


class VAE(nn.Module):
    """p(z) = N(0, I_d), p(x | z) a likelihood of the decoder's output, q(z | x) a posterior of the encoder's.

    The networks see u = (x - shift) / scale; densities are of x, in nats.

    Parameters
    ----------
    encoder, decoder : Module
        (n, p) -> (n, posterior.n_raw(d)) and (n, d) -> (n, likelihood.n_raw(p)).
    posterior : callable
        (raw, d) -> Posterior.
    likelihood : Likelihood
    shift, scale : Tensor of shape (p,), float64
    n_components : int
    """

    def __init__(self, encoder, decoder, posterior, likelihood, shift, scale, n_components):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.posterior = posterior
        self.likelihood = likelihood
        self.n_components = n_components
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self._measure()
        self.register_load_state_dict_post_hook(VAE._measure)  # which may have brought another scale

    def _measure(self, _=None):
        self.log_volume = self.scale.log().sum().item()  # log p(x) = log p(u) - log_volume

    def standardise(self, x):
        return (x - self.shift.to(x.dtype)) / self.scale.to(x.dtype)

    def restore(self, u):
        return u * self.scale.to(u.dtype) + self.shift.to(u.dtype)

    def encode(self, u):
        """q(z | x) of each row of u (n, p)."""
        return self.posterior(self.encoder(self.likelihood.inputs(u)), self.n_components)

    def forward(self, u, eps):
        """One reparametrised draw for each eps (..., n, d); (n, d), with no draws to sum over, is the fastest.

        Returns
        -------
        log_likelihood : Tensor of shape (..., n)
            log p(x | z), up to the constant `log_volume`.
        q : Posterior
        z : Tensor of shape (..., n, d)
        """
        q = self.encode(u)
        z = q.rsample(eps)
        raw = self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1]) if z.ndim > 2 else self.decoder(z)
        return self.likelihood.log_prob(raw, u), q, z

    def importance_terms(self, u, eps):
        """log p(x | z_k) and log p(z_k) / q(z_k | x) in nats, each (K, n), for eps broadcasting to (K, n, d)."""
        log_likelihood, q, z = self(u, eps)
        return log_likelihood - self.log_volume, q.log_prior_ratio(z, eps)

    @torch.no_grad()
    def start_at(self, linear):
        """Take a linear-Gaussian optimum given as a `LinearStart`: its maps, its noise, its posterior."""
        d, p = self.n_components, len(self.shift)
        encoder, decoder = self.encoder, self.decoder
        encoder.start_weight.copy_(linear.encoder_weight)
        encoder.start_bias[d:].copy_(linear.posterior_raw)
        encoder.unit[:d].copy_(linear.posterior_std)
        decoder.start_weight.copy_(linear.loadings)
        decoder.start_bias[p:].copy_(self.likelihood.start(linear.noise_variance.to(self.shift.device)))
        decoder.unit[:p].copy_(linear.noise_variance.sqrt())
