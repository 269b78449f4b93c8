"""The model: encoder -> posterior -> decoder -> likelihood."""

import torch
from torch import nn

from .missing_values import MissingValueConditional, TemperedPosterior, WidenedPosterior, refine_fill


class VAEModule(nn.Module):
    """p(z) = N(0, I_d), p(x | z) a likelihood of the decoder's output, q(z | x) a posterior of the encoder's.

    The networks see u = (x - shift) / scale; densities are of x, in nats. Where a method takes `has_missing`, rows may
    have NaN for values that were not measured; without it, no time is spent on them.

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
    order, sign : Tensor of shape (d,)
        Of the components as the user sees them (`to_user_order`): sign times the module's component `order`.
    log_volume : float
        sum(log(scale)): log p(x) = log p(u) - log_volume.
    has_linear_start : bool
        Whether `start_at` gave the module a linear-Gaussian model, from which gaps are filled.
    """

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
        self.register_buffer("fill_mean", centre.float())  # without a linear start, gaps are filled with means
        self.register_buffer("fill_loadings", torch.zeros(len(shift), n_components))
        self.register_buffer("fill_noise", torch.ones(len(shift)))
        self._derive_constants()
        self.register_load_state_dict_post_hook(VAEModule._derive_constants)  # what was loaded may have another scale

    def _derive_constants(self, _=None):
        self.log_volume = self.scale.log().sum().item()
        if self.fill_loadings.is_meta:  # the module was made only to see which shapes it has
            return
        self.has_linear_start = bool(self.fill_loadings.any())

    def standardise(self, x):
        return (x - self.shift.to(x.dtype)) / self.scale.to(x.dtype)

    def restore(self, u):
        return u * self.scale.to(u.dtype) + self.shift.to(u.dtype)

    def to_user_order(self, z):
        """The module's z (..., d) with the components as the user sees them."""
        return z.index_select(-1, self.order) * self.sign.to(z.dtype)

    def to_model_order(self, z):
        """The user's z (..., d) with the components as the module has them."""
        return (z * self.sign.to(z.dtype)).index_select(-1, self.order.argsort())

    def transform(self, x, has_missing=False, n_fill_steps=0):
        """Posterior means (n, d) of rows x, as the user sees them."""
        return self.to_user_order(self.encode(self.standardise(x), has_missing, n_fill_steps).mean)

    def inverse_transform(self, z):
        """Means (n, p) of p(x | z), in X's units, of the user's z."""
        return self.restore(self.likelihood.mean(self.decoder(self.to_model_order(z))))

    def encode(self, u, has_missing=False, n_fill_steps=0):
        """q(z | x) of each row of u (n, p).

        Gaps are filled from the linear model and, in `n_fill_steps` steps, by the decoder.
        """
        if not has_missing:
            return self._encode_complete(u)
        conditional, filled = self._conditional_and_filled(u, n_fill_steps)
        q = self._encode_complete(filled)
        if self.has_linear_start:
            return WidenedPosterior(q, conditional.widening())
        return TemperedPosterior(q, conditional.measured.double().mean(1))

    def _conditional_and_filled(self, u, n_fill_steps):
        """What the linear model says of the gaps of u (n, p), and the rows that the encoder is to see."""
        conditional = MissingValueConditional(u, self.fill_loadings, self.fill_mean, self.fill_noise)
        if n_fill_steps:
            values = refine_fill(
                conditional,
                u,
                n_fill_steps,
                encode_mean=lambda filled: self._encode_complete(filled).mean,
                decode=lambda z: self._log_likelihood_and_mean(self.decoder(z), u),
            )
        else:
            values = self._linear_values(conditional)
        return conditional, conditional.fill(u, values)

    def fill(self, x, n_fill_steps):
        """Rows x (n, p), in X's units, with the values that `encode` puts where one is missing."""
        return self.restore(self._conditional_and_filled(self.standardise(x), n_fill_steps)[1])

    def fill_linearly(self, u):
        """u (n, p) with the linear model's values where one is missing."""
        conditional = MissingValueConditional(u, self.fill_loadings, self.fill_mean, self.fill_noise)
        return conditional.fill(u, self._linear_values(conditional))

    def _linear_values(self, conditional):
        return self.fill_mean + conditional.mean @ self.fill_loadings.T.to(conditional.dtype)

    def _encode_complete(self, u):
        return self.posterior(self.encoder(self.likelihood.inputs(u)), self.n_components)

    def _log_likelihood_and_mean(self, raw, u):
        return self.log_likelihood(raw, u, has_missing=True), self.likelihood.mean(raw)

    def log_likelihood(self, raw, u, has_missing=False):
        """log p(u | z), shape (...), of the measured values; a missing one counts as its part of `log_volume`."""
        if not has_missing:
            return self.likelihood.log_prob(raw, u)
        missing = u.isnan()
        density = self.likelihood.log_density(raw, torch.where(missing, self.fill_mean, u))
        return torch.where(missing, self.scale.log().to(u.dtype), density).sum(-1)

    def forward(self, u, eps, has_missing=False, n_fill_steps=0):
        """One reparametrised draw for each eps (..., n, d); (n, d), with no draws to sum over, is the fastest.

        Returns
        -------
        log_likelihood : Tensor of shape (..., n)
            log p(x | z), up to the constant `log_volume`.
        q : Posterior
        z : Tensor of shape (..., n, d)
        """
        q = self.encode(u, has_missing, n_fill_steps)
        z = q.rsample(eps)
        raw = self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1]) if z.ndim > 2 else self.decoder(z)
        return self.log_likelihood(raw, u, has_missing), q, z

    def importance_terms(self, u, eps, has_missing=False, n_fill_steps=0):
        """log p(x | z_k) and log p(z_k) / q(z_k | x) in nats, each (K, n), for eps broadcasting to (K, n, d)."""
        log_likelihood, q, z = self(u, eps, has_missing, n_fill_steps)
        return log_likelihood - self.log_volume, q.log_prior_ratio(z, eps)

    @torch.no_grad()
    def start_at(self, linear):
        """Take a linear model given as a `LinearStart`: its maps, its posterior and, if it is Gaussian, its noise."""
        d, p = self.n_components, len(self.shift)
        encoder, decoder = self.encoder, self.decoder
        encoder.start_weight.copy_(linear.encoder_weight)
        encoder.start_bias[:d].copy_(linear.encoder_bias)
        encoder.start_bias[d:].copy_(linear.posterior_raw)
        encoder.unit[:d].copy_(linear.posterior_std)
        decoder.start_weight.copy_(linear.loadings)
        decoder.start_bias[:p].copy_(linear.mean)
        if linear.noise_variance is None:
            return
        decoder.start_bias[p:].copy_(self.likelihood.init_noise(linear.noise_variance.to(self.shift.device)))
        decoder.unit[:p].copy_(linear.noise_variance.sqrt())
        self.fill_mean.copy_(linear.mean)
        self.fill_loadings.copy_(linear.loadings)
        self.fill_noise.copy_(linear.noise_variance)
        self._derive_constants()
