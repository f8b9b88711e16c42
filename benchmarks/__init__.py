"""Each figure that the project states, measured beside a peer's in one run: `python -m benchmarks`."""
