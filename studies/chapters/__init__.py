"""The studies, one to a module."""
