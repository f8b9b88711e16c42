"""What a network costs and how it works inside."""

from keras_resnet.analysis.counting import Count, count

__all__ = ["Count", "count"]
