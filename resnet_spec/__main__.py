"""`python -m resnet_spec`."""

import sys

if __name__ == "__main__":
    # `python -m` puts the working folder before all else, and strangers may have written to it. The
    # package is loaded, so that it finds its own modules also where it lies in that folder.
    if not sys.flags.safe_path:
        del sys.path[0]

    from resnet_spec.cli.run import program

    program()
