"""Commands that belong together, each group in a file; `pipeline.cli` adds them."""
