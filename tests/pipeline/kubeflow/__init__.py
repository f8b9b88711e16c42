"""Tests of the export to Kubeflow Pipelines."""
