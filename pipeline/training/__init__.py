"""The training loop, its input, and what runs on TensorFlow beside it."""
