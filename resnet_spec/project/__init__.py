"""A project that uses the compiler: its settings, and its files on disk."""
