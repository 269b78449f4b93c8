"""Tables as people bring them, on their way to scikit-learn's checks."""

import numpy as np
import torch

NUMPYS = (torch.float16, torch.float32, torch.float64)  # floating dtypes that numpy has, too


def readable(X):
    """X as what scikit-learn reads rightly, most often itself.

    A torch tensor becomes an array, without its graph; a masked value becomes NaN, which is for what was not measured.

    Raises
    ------
    TypeError
        If X has dates or times, which would be read as nanoseconds.
    """
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        return (X.double() if X.is_floating_point() and X.dtype not in NUMPYS else X).numpy()
    if isinstance(X, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(X), np.array(np.nan, np.result_type(X.dtype, np.float16)), X.data)
    dtypes = X.dtypes if hasattr(X, "columns") else [getattr(X, "dtype", None)]
    if any(getattr(dtype, "kind", "") in ("M", "m") or getattr(dtype, "is_temporal", bool)() for dtype in dtypes):
        raise TypeError("X has dates or times: make numbers of them, such as seconds since the first.")
    return X
