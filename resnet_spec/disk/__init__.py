"""What lies on a disk and may be anything: which files are opened, and from where."""
