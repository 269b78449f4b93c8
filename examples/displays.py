"""Three of the displays, on soil spectra: loadings, a reconstruction with its band, the latent space.

460 soil samples, reflectance at 830 wavelengths (LimeSoDa's SSP.460). Takes well under a minute.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.model_selection import train_test_split

from skvae import VAETransformer
from skvae.displays import LatentDisplay, LoadingsDisplay, ReconstructionDisplay


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="displays.png")
    args = parser.parse_args()
    table = load_dataset("SSP.460")["Dataset"]
    spectra = table[[column for column in table.columns if column.startswith("wl_")]].drop_duplicates()
    clay = table.loc[spectra.index, "Clay_target"]
    train, test, _, clay_test = train_test_split(spectra, clay, test_size=0.25, random_state=0)

    vae = VAETransformer(4, likelihood="gaussian_isotropic", random_state=0).fit(train)
    dead = test.iloc[:1].copy()
    dead.iloc[0, 300:420] = np.nan  # a stretch of the detector that measured nothing
    units = {"axis_name": "wavelength, nm"}
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    LoadingsDisplay.from_estimator(vae, test, components=(0, 1, 2), ax=left, **units)
    ReconstructionDisplay.from_estimator(vae, dead, level=0.99, ax=middle, **units)
    LatentDisplay.from_estimator(vae, test, clay_test, n_std=2, y_name="clay, %", ax=right)
    left.set_ylabel("reflectance, % a unit of the component")
    middle.set_ylabel("reflectance, %")
    figure.savefig(args.output, dpi=110)
    print(f"{vae.n_active_components_} of 4 components are active; their shares of the variance of the spectra:")
    print(", ".join(f"{share:.4f}" for share in vae.explained_variance_ratio_))
    print(f"The figure is in {args.output}")


if __name__ == "__main__":
    main()
