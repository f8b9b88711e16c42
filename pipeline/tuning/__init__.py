"""The search for hyperparameters: its space, its trials, and the processes that do them."""
