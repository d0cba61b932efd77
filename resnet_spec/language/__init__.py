"""The language of specs: nodes with positions, checked, merged and read to statements."""
