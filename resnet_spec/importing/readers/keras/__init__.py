"""Models of Keras, their graphs and weights read without Keras: nothing of a file runs."""
