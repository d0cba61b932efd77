"""Checks that the backends wrote the same network: runs them with the same numbers and compares."""
