"""Real uses with other packages, in an environment of their own: ``pip install ".[interop]"``, then
``python -m pytest tests/interop``."""
