"""The same graph on Kubeflow Pipelines; needs the extra `kfp`."""
