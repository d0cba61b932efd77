"""Weights of networks in files: read, matched with a spec, adapted, and written for a framework.

    file ─► formats ─► checkpoint ─► match ─► adapt ─► state ─► formats ─► file
            (reads      (tensors      (against  (what    (arrays by
             headers)    by name)      the IR)   to do)   our names)

Values are read last and only where the shape is the spec's, so that no file decides how much memory
is taken. Nothing here imports a framework but the two formats that can't be written without.
"""
