"""The model: encoder -> posterior -> decoder -> likelihood."""

import torch
from torch import nn

from ._gaps import Conditional
from .posteriors import TemperedPosterior, WidenedPosterior


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

    Attributes
    ----------
    gaps : bool
        Whether rows may have NaN, for what was not measured. Without, nothing is spent on them.
    n_refills : int
        How often the gaps are filled anew by the decoder before the encoder's answer is taken.
    order, sign : Tensor of shape (d,)
        Of the components as the user sees them, `arranged`: sign times the module's component `order`.
    """

    gaps = False
    n_refills = 0
    shift: torch.Tensor
    scale: torch.Tensor
    order: torch.Tensor
    sign: torch.Tensor
    fill_mean: torch.Tensor
    fill_loadings: torch.Tensor
    fill_noise: torch.Tensor

    def __init__(self, encoder, decoder, posterior, likelihood, shift, scale, n_components):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.posterior = posterior
        self.likelihood = likelihood
        self.n_components = n_components
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self.register_buffer("order", torch.arange(n_components))
        self.register_buffer("sign", torch.ones(n_components))
        centre = torch.zeros_like(shift) if likelihood.standardises else likelihood.column_mean
        self.register_buffer("fill_mean", centre.float())  # without a linear start gaps are filled with means
        self.register_buffer("fill_loadings", torch.zeros(len(shift), n_components))
        self.register_buffer("fill_noise", torch.ones(len(shift)))
        self._measure()
        self.register_load_state_dict_post_hook(VAE._measure)  # which may have brought another scale

    def _measure(self, _=None):
        self.log_volume = self.scale.log().sum().item()  # log p(x) = log p(u) - log_volume
        if self.fill_loadings.is_meta:  # made to see what shapes it has
            return
        self.has_linear_start = bool(self.fill_loadings.any())

    def standardise(self, x):
        return (x - self.shift.to(x.dtype)) / self.scale.to(x.dtype)

    def restore(self, u):
        return u * self.scale.to(u.dtype) + self.shift.to(u.dtype)

    def arranged(self, z):
        """z (..., d) as the user sees it."""
        return z.index_select(-1, self.order) * self.sign.to(z.dtype)

    def disarranged(self, z):
        """The module's z (..., d) of the user's."""
        return (z * self.sign.to(z.dtype)).index_select(-1, self.order.argsort())

    def transform(self, x):
        """Posterior means (n, d) of rows x, as the user sees them."""
        return self.arranged(self.encode(self.standardise(x)).mean)

    def inverse_transform(self, z):
        """Means (n, p) of p(x | z), in X's units, of the user's z."""
        return self.restore(self.likelihood.mean(self.decoder(self.disarranged(z))))

    def encode(self, u):
        """q(z | x) of each row of u (n, p)."""
        if not self.gaps:
            return self._encode(u)
        linear = Conditional(u, self.fill_loadings, self.fill_mean, self.fill_noise)
        values = self._refill(u, linear) if self.n_refills else self.fill_mean + linear.mean @ self.fill_loadings.T
        q = self._encode(linear.fill(u, values))
        if self.has_linear_start:
            return WidenedPosterior(q, linear.widening())
        return TemperedPosterior(q, linear.measured.double().mean(1))

    def _refill(self, u, linear):
        """The decoder's values (n, p) for a z that the encoder confirms when it sees them in the gaps.

        From the linear answer by Newton's steps, each halved until log p(u, z) of the measured values rises.
        """

        def joint(z):
            raw = self.decoder(z)
            return self.log_likelihood(raw, u) - 0.5 * z.square().sum(-1), self.likelihood.mean(raw)

        z = linear.mean
        length: float | torch.Tensor = 1.0
        worth, values = joint(z)
        for _ in range(self.n_refills):
            step = linear.newton(self._encode(linear.fill(u, values)).mean - z)
            trial = z + length * step
            trial_worth, trial_values = joint(trial)
            better = (trial_worth > worth).unsqueeze(1)
            z, values = torch.where(better, trial, z), torch.where(better, trial_values, values)
            worth = torch.maximum(trial_worth, worth)
            length = torch.where(better, 1.0, length / 2)
        return values

    def _encode(self, u):
        return self.posterior(self.encoder(self.likelihood.inputs(u)), self.n_components)

    def log_likelihood(self, raw, u):
        """log p(u | z), shape (...), of the measured values; with gaps, `log_volume` less that of the missing ones."""
        if not self.gaps:
            return self.likelihood.log_prob(raw, u)
        missing = u.isnan()
        density = self.likelihood.log_density(raw, torch.where(missing, self.fill_mean, u))
        return torch.where(missing, self.scale.log().to(u.dtype), density).sum(-1)

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
        return self.log_likelihood(raw, u), q, z

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
        encoder.start_bias[:d].copy_(-(linear.encoder_weight @ linear.mean))
        encoder.start_bias[d:].copy_(linear.posterior_raw)
        encoder.unit[:d].copy_(linear.posterior_std)
        decoder.start_weight.copy_(linear.loadings)
        decoder.start_bias[:p].copy_(linear.mean)
        decoder.start_bias[p:].copy_(self.likelihood.start(linear.noise_variance.to(self.shift.device)))
        decoder.unit[:p].copy_(linear.noise_variance.sqrt())
        self.fill_mean.copy_(linear.mean)
        self.fill_loadings.copy_(linear.loadings)
        self.fill_noise.copy_(linear.noise_variance)
        self._measure()
