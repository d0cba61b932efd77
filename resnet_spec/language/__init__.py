"""The language of specs: YAML nodes with positions, merged, checked and parsed into statements."""
