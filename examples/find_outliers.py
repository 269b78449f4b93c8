"""
Find outliers, with limits
==========================

T2 says how far a spectrum's components lie from those of the training spectra, Q how far the spectrum lies from its own
reconstruction, and `score_samples` how probable it is. T2 and Q come with limits. Faults are put into half of the new
spectra here, so that both rates are known: that of faults found, and that of false alarms.
"""

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.model_selection import train_test_split

from skvae import VAETransformer

X = load_dataset("SSP.460")["Dataset"].filter(regex="^wl_").drop_duplicates().to_numpy()
train, rest = train_test_split(X, test_size=0.4, random_state=0)
new, victims = np.array_split(rest, 2)

# A spike at one channel, of its standard deviation; a drift, of 0.3 of the mean one; a gain of 30 %.
rng, n_channels = np.random.default_rng(0), X.shape[1]
spread, sign = train.std(axis=0), rng.choice([-1, 1], size=(len(victims), 1))
faults = {
    "spike": victims + sign * spread * (np.arange(n_channels) == rng.integers(n_channels, size=sign.shape)),
    "drift": victims + 0.3 * sign * spread.mean() * np.linspace(-1, 1, n_channels),
    "gain": victims * (1 + 0.3 * sign),
}

# %%
# The limits of T2 and Q are made for 95 % of new spectra that are like the training spectra: 5 % would be false alarms.
# Nats have no limit of their own. Here it is a quantile of the training spectra, below which more than 5 % of new ones
# lie.

vae = VAETransformer(4, random_state=0).fit(train)
charts = {
    "T2": (vae.hotelling_t2, vae.hotelling_t2_limit(0.95)),
    "Q": (vae.q_residuals, vae.q_residuals_limit(0.95)),
    "nats": (lambda rows: -vae.score_samples(rows), -np.quantile(vae.score_samples(train), 0.05)),
}
groups = {"as measured\n(false alarms)": new, **faults}
rates = {name: [np.mean(of(rows) > limit) for rows in groups.values()] for name, (of, limit) in charts.items()}
for name, found in rates.items():
    print(f"{name:<5} above the limit: {', '.join(f'{rate:.0%}' for rate in found)}")

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for (title, rows), color in zip(groups.items(), ("k", "C3", "C1", "C4"), strict=True):
    t2, q = (charts[name][0](rows) / charts[name][1] for name in ("T2", "Q"))
    left.loglog(t2, q, "o", ms=4, alpha=0.7, mew=0, color=color, label=title.split("\n")[0])
left.axvline(1, color="k", lw=0.8, ls="--")
left.axhline(1, color="k", lw=0.8, ls="--")
left.set(xlabel="T2 / its 95 % limit", ylabel="Q / its 95 % limit", title="New spectra, with and without faults")
left.legend()
for i, (name, found) in enumerate(rates.items()):
    right.bar(np.arange(len(groups)) + 0.25 * (i - 1), 100 * np.array(found), width=0.25, label=name)
right.axhline(5, color="k", lw=0.8, ls="--")
right.set_xticks(range(len(groups)), groups)
right.set(ylabel="above the limit, % of spectra", title="Faults found, and false alarms")
right.legend()
plt.show()
