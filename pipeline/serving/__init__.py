"""What is served: the SavedModel's signature, and asking it for predictions."""
