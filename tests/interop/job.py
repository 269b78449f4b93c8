"""What each of the processes runs that test_distributed starts: ``python -m tests.interop.job FOLDER PARAMETERS``."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
from skorch.callbacks import Callback

from skvae import VAETransformer

from ..conftest import curved_spectra


class Die(Callback):
    """Kill -9 to the process whose rank DIES names, in mid-epoch of the epoch that it names."""

    def on_batch_end(self, net, **kwargs):
        if os.environ.get("DIES") == f"{os.environ['RANK']} {len(net.history) - 1}":
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder, params):
    X = curved_spectra(403, 24)
    if params.pop("gaps", False):
        X[np.random.RandomState(0).uniform(size=X.shape) < 0.1] = np.nan
    weight = np.random.RandomState(1).randint(1, 4, 403).astype(float) if params.pop("weights", False) else None
    vae = VAETransformer(3, distributed=True, callbacks=[Die] if params.pop("may_die", False) else None, **params)
    vae.fit(X, sample_weight=weight)
    rank = os.environ.get("RANK", "0")
    np.save(folder / f"{rank}.npy", vae.transform(X))
    losses = [
        [row.get("train_loss", 0.0), row.get("train_kl", 0.0), row.get("valid_score", 0.0)] for row in vae.history_
    ]
    (folder / f"{rank}.json").write_text(json.dumps(losses))
    vae.save(folder / f"by {rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
