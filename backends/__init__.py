"""The backends that come with the package; each writes the primitives in one framework's words."""
