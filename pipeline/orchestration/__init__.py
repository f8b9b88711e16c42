"""The graph of components, the store of their executions, and the view of a run."""
