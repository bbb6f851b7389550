"""What the operators of one forward pass say of each parameter: the recorded graph, and how it is read."""
