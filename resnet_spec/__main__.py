"""`python -m resnet_spec`."""

from __future__ import annotations

from resnet_spec.cli.run import program

if __name__ == "__main__":
    program()
