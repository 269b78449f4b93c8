"""The model: encoder -> posterior -> decoder -> likelihood."""

import torch
from torch import nn

from .._data.rows import values_and_errors
from .._data.scaling import standardised
from .value_precisions import LinearConditional, TemperedPosterior, WidenedPosterior, refined_values


class VAEModule(nn.Module):
    """p(z) = N(0, I_d), p(x | z) a likelihood of the decoder's output, q(z | x) a posterior of the encoder's.

    The networks see u = (x - shift) / scale; densities are of x, in nats. Rows u are a tensor (n, p) or, where values
    are missing or have errors of their own, (n, 2, p), with the variances of the errors (`standardised`). On rows
    (n, p) no time is spent on errors.

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
        self.register_buffer("fill_mean", centre.float())  # without a linear start, rows are their means and noise
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
        return standardised(x, self.shift, self.scale)

    def restore(self, u):
        return u * self.scale.to(u.dtype) + self.shift.to(u.dtype)

    def to_user_order(self, z):
        """The module's z (..., d) with the components as the user sees them."""
        return z.index_select(-1, self.order) * self.sign.to(z.dtype)

    def to_model_order(self, z):
        """The user's z (..., d) with the components as the module has them."""
        return (z * self.sign.to(z.dtype)).index_select(-1, self.order.argsort())

    def transform(self, x, n_refining_steps=0):
        """Posterior means (n, d) of rows x, as the user sees them."""
        return self.to_user_order(self.encode(self.standardise(x), n_refining_steps).mean)

    def inverse_transform(self, z):
        """Means (n, p) of p(x | z), in X's units, of the user's z."""
        return self.restore(self.likelihood.mean(self.decoder(self.to_model_order(z))))

    def encode(self, u, n_refining_steps=0):
        """q(z | x) of each row u.

        What the values would be without their errors comes from the linear model and, in `n_refining_steps` steps, from
        the decoder.
        """
        values, errors = values_and_errors(u)
        if errors is None:
            return self._encode_whole(values)
        conditional, seen = self._conditional_and_seen(u, n_refining_steps)
        q = self._encode_whole(seen)
        if self.has_linear_start:
            return WidenedPosterior(q, conditional.widening())
        return TemperedPosterior(q, conditional.share.double().mean(1))

    def _conditional_and_seen(self, u, n_refining_steps):
        """What the linear model says of rows u (n, 2, p), and these without errors, as the encoder is to see them."""
        values, errors = values_and_errors(u)
        conditional = self.linear_conditional(values, errors)
        if n_refining_steps:
            seen = refined_values(
                conditional,
                values,
                n_refining_steps,
                encode_mean=lambda whole: self._encode_whole(whole).mean,
                decode=lambda z: self._log_likelihood_and_mean(self.decoder(z), u),
            )
        else:
            seen = self._linear_values(conditional, values)
        return conditional, seen

    def seen(self, x, n_refining_steps=0):
        """The values (n, p) of rows x, in X's units, as `encode` sees them: without their errors."""
        if x.ndim == 2:
            return x
        return self.restore(self._conditional_and_seen(self.standardise(x), n_refining_steps)[1])

    def linear_conditional(self, values, errors):
        """What the linear model says of z, given values (n, p) with errors of these variances (n, p)."""
        is_noisy = self.likelihood.has_noise or not self.has_linear_start  # all is noise where there are no loadings
        noise = self.fill_noise if is_noisy else torch.zeros_like(self.fill_noise)
        return LinearConditional(values, errors, self.fill_loadings, self.fill_mean, noise, self.fill_noise)

    def stretched(self, z, u, least):
        """Posterior means z (n, d) of rows u, stretched to the spread of those of rows without errors."""
        values, errors = values_and_errors(u)
        if errors is None or not self.has_linear_start:
            return z
        stretch = self.linear_conditional(values, errors).stretch(least)
        return (stretch @ z.double().unsqueeze(-1)).squeeze(-1).to(z.dtype)

    def linear_values(self, u):
        """The values (n, p) of rows u without their errors, as the linear model has them."""
        values, errors = values_and_errors(u)
        return values if errors is None else self._linear_values(self.linear_conditional(values, errors), values)

    def _linear_values(self, conditional, values):
        expected = self.fill_mean + conditional.mean @ self.fill_loadings.T.to(conditional.dtype)
        return conditional.without_errors(values, expected.to(values.dtype))

    def _encode_whole(self, u):
        return self.posterior(self.encoder(self.likelihood.inputs(u)), self.n_components)

    def _log_likelihood_and_mean(self, raw, u):
        return self.log_likelihood(raw, u), self.likelihood.mean(raw)

    def log_likelihood(self, raw, u):
        """log p(u | z), shape (...), of the measured values; a missing one counts as its part of `log_volume`."""
        values, errors = values_and_errors(u)
        if errors is None:
            return self.likelihood.log_prob(raw, values)
        missing = errors.isinf()
        values = torch.where(missing, self.fill_mean.to(values.dtype), values)
        with_errors = (errors.masked_fill(missing, 1.0),) if self.likelihood.takes_errors else ()
        density = self.likelihood.log_density(raw, values, *with_errors)
        return torch.where(missing, self.scale.log().to(values.dtype), density).sum(-1)

    def forward(self, u, eps, n_refining_steps=0):
        """One reparametrised draw for each eps (..., n, d); (n, d), with no draws to sum over, is the fastest.

        Returns
        -------
        log_likelihood : Tensor of shape (..., n)
            log p(x | z), up to the constant `log_volume`.
        q : Posterior
        z : Tensor of shape (..., n, d)
        """
        q = self.encode(u, n_refining_steps)
        z = q.rsample(eps)
        raw = self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1]) if z.ndim > 2 else self.decoder(z)
        return self.log_likelihood(raw, u), q, z

    def importance_terms(self, u, eps, n_refining_steps=0):
        """log p(x | z_k) and log p(z_k) / q(z_k | x) in nats, each (K, n), for eps broadcasting to (K, n, d)."""
        log_likelihood, q, z = self(u, eps, n_refining_steps)
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
        decoder.unit[:p].copy_(linear.unit_variance.sqrt())
        if linear.degrees_of_freedom is not None:
            self.likelihood.set_degrees_of_freedom(linear.degrees_of_freedom)
        self.fill_mean.copy_(linear.mean)
        self.fill_loadings.copy_(linear.loadings)
        self.fill_noise.copy_(linear.noise_variance)
        self._derive_constants()
