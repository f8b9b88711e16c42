"""What only a person can say of a model, for its model card."""

from pipeline.parameters import NonEmpty, parameters


@parameters
class Card:
    """What stands in the model card beside what data and figures tell; no result depends on it.

    Args:
        intended_use: What the model is for, and what it is not for.
        limits: What is known of it that no figure shows.
        data_licence: Under which licence the images are.
        licence: Under which licence the model is.
    """

    intended_use: NonEmpty | None = None
    limits: NonEmpty | None = None
    data_licence: NonEmpty | None = None
    licence: NonEmpty | None = None
