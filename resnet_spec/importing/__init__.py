"""A model becomes a spec: its graph is read, its structure found, written as YAML, and proven."""
