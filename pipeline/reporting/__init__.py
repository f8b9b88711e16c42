"""Pages about a run for a person: one file each, without scripts, that needs no network."""
