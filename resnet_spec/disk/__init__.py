"""Untrusted files on disk: which ones are opened, and from where."""
