"""From a program to files: the layout of Python, headers, templates."""
