"""The version of the package, which files and pickles record."""

__version__ = "0.1.0"
