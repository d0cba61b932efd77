"""From parts to a spec that a person would have written: stages, blocks of its own, names, text."""
