"""The parts of a Markdown table."""

import numpy as np


def line(*cells):
    """A row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def heading(*cells):
    """The first two lines of a table: the columns' names, and what sets them off."""
    return f"{line(*cells)}\n{'|---' * len(cells)}|"


def spread(values, digits=1, ddof=0):
    """Mean ± standard deviation."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=ddof):.{digits}f}"
