"""Known errors of single values: the standard deviation of what was measured about the true value."""

from sklearn.utils import check_array

from .._sklearn_compat import array_library
from .arrays import floating_dtypes
from .rows import Rows
from .tables import check_same_labels, to_supported_table, values_and_header


def check_errors(X_std, shape, header, name="X_std", of="X"):
    """Standard deviations of the errors of X's values, as `Rows` of X's shape (n, p); None where all are 0.

    Parameters
    ----------
    X_std : array-like of shape (n, p) or (p,), or None
    shape : tuple
        Shape of X.
    header : table
        A table with the labels of X's columns, if they have labels.
    name, of : str
        Names of the arguments that have the errors and the values.

    Raises
    ------
    ValueError
        If X_std is no table of numbers, has another shape or other labels of its columns than X, or if an error is
        negative or NaN.
    """
    if X_std is None:
        return None
    try:
        values, names = values_and_header(to_supported_table(X_std))
        options = {"ensure_2d": False, "ensure_all_finite": False, "ensure_min_samples": 0}
        std = check_array(values, dtype=floating_dtypes(values), **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is no table of numbers: {error}") from error
    if tuple(std.shape) not in (tuple(shape), tuple(shape[1:])):
        raise ValueError(
            f"{name} has shape {tuple(std.shape)}, but {of} has {tuple(shape)}: it must have that shape or, with one "
            f"error for each column, {tuple(shape[1:])}."
        )
    check_same_labels(names, header, name, of)
    if std.ndim == 1:
        std = array_library(std)[0].broadcast_to(std, tuple(shape))
    errors, is_positive = Rows(std), False
    for block, these in errors.blocks():
        wrong = (~(these >= 0)).nonzero()
        if len(wrong):
            row, column = wrong[0].tolist()
            raise ValueError(
                f"{name} has {these[row, column]:g} in row {block.start + row}, column {column}: it has standard "
                "deviations, which are 0 or greater. Infinity stands for a value that was not measured."
            )
        is_positive = is_positive or bool((these > 0).any())
    return errors if is_positive else None
