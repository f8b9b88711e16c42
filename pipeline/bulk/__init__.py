"""Prediction in bulk: what is read, what is written, and the job that goes on where it was killed."""
