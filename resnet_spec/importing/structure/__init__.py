"""What a graph is made of: where all passes through one value, blocks that come again, arguments."""
