"""Whether this process is one of several that train one model, as torchrun and `accelerate launch` start them."""

import os


def is_distributed(params):
    """Whether steps are to be shared, and there are processes to share them."""
    return params.distributed and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main_process(params):
    """Whether this process writes files: of several, the first does."""
    return not is_distributed(params) or os.environ["RANK"] == "0"
