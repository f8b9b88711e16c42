"""Apache Beam: the runner that is used, progress, and the transforms of the components."""
