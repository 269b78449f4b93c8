"""The command line of a script."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter


def parser_of(description):
    """A parser whose help is the description as it is written, line by line."""
    return ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
