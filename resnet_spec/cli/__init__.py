"""The command line: the parser, and one module for each verb."""

from resnet_spec.cli.run import main, program

__all__ = ["main", "program"]
