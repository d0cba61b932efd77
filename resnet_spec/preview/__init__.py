"""A report that is served on this machine alone, and renewed whenever what it rests on is saved."""
