"""What a graph is made of: where it can be cut, which blocks it holds, with which arguments."""
