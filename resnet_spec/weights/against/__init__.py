"""The network of a spec against the source of its weights: both run on the same images.

The source runs in a process of its own. What it computes on the way is looked through for each
stage's values, so that no names are needed: the first stage whose values it has nowhere is named.
"""
