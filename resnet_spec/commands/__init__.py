"""The verbs of the command line, one module each; `run(arguments)` gives the exit code."""
