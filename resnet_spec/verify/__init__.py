"""Proof that the backends wrote one network: both are run with the same numbers and compared."""
