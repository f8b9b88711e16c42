"""MixUp and CutMix of neighbours."""

from typing import Any

import numpy as np
from keras import ops

from keras_resnet.recipes import geometry

_INTEGRATION_POINTS = 1 << 14
_QUANTILES = 1 << 12


def beta_quantiles(alpha: float) -> np.ndarray:
    """Returns the quantiles of Beta(α, α) at evenly spaced levels from 0 to 1, float32.

    A uniform number becomes one of this distribution by interpolation between them, without
    drawing until one is accepted. With `t = x^α` what is integrated is smooth where the density
    itself is infinite.
    """
    steps = np.linspace(0.0, 0.5**alpha, _INTEGRATION_POINTS)
    points = steps ** (1 / alpha)
    density = (1 - points) ** (alpha - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(steps))])
    levels = np.linspace(0.0, 0.5, _QUANTILES // 2 + 1)
    lower = np.interp(levels, mass / mass[-1] / 2, steps) ** (1 / alpha)
    return np.concatenate([lower, 1 - lower[-2::-1]]).astype(np.float32)


def beta(uniform: Any, alpha: float) -> Any:
    """Returns numbers of Beta(α, α), float32, made of as many uniform ones in [0, 1)."""
    quantiles = beta_quantiles(alpha)
    place = uniform * (len(quantiles) - 1)
    below = ops.minimum(ops.cast(place, "int32"), len(quantiles) - 2)
    rest = place - ops.cast(below, "float32")
    table = ops.convert_to_tensor(quantiles)
    return ops.take(table, below) * (1 - rest) + ops.take(table, below + 1) * rest


def mix(
    images: Any,
    targets: Any,
    draws: Any,
    mixup: float,
    cutmix: float,
    probability: float,
    switch_probability: float,
) -> tuple[Any, Any]:
    """Returns images and targets that are mixed in pairs, 0 with 1, 2 with 3 and so on.

    Either both pictures are blended (MixUp), or they swap a rectangle (CutMix). Each pair has a
    share of its own, and its targets are mixed by the share of pixels that really changed.

    Args:
        images: float32 `(examples, height, width, channels)`, an even number of examples.
        targets: float32 `(examples, classes)`.
        draws: Random numbers.
        mixup: α of the shares of MixUp; 0 for none.
        cutmix: α of CutMix; 0 for none.
        probability: Probability that a pair is mixed.
        switch_probability: Probability of CutMix where there are both.

    Raises:
        ValueError: If the number of examples is odd.

    Reference:
        - [Zhang et al., 2018, section 2](https://arxiv.org/abs/1710.09412)
        - [Yun et al., 2019, section 3.1](https://arxiv.org/abs/1905.04899)
    """
    examples = images.shape[0]
    if examples is not None and examples % 2:
        raise ValueError(
            "MixUp and CutMix mix neighbours, so a batch, or a replica's part of one, must have an "
            f"even number of examples. Received: {examples}. Choose batch_size as an even multiple "
            "of the number of replicas and of accumulate_steps, or turn mixup and cutmix off."
        )

    def of_pairs(name: str, *shape: int) -> Any:
        return draws.uniform(name, *shape)[::2]

    height, width = images.shape[1:3]
    mixed = of_pairs("mix_apply") < probability
    cuts = of_pairs("mix_switch") < switch_probability if mixup and cutmix else bool(cutmix)
    kept = beta(of_pairs("mix_share"), mixup) if mixup else None
    mask = None
    if cutmix:
        wanted = 1 - beta(of_pairs("mix_cut_share"), cutmix)
        side = ops.where(ops.logical_and(mixed, cuts), ops.sqrt(wanted), 0.0)
        sides = ops.stack([side, side], axis=-1)
        mask, area = geometry.box(of_pairs("mix_place", 2), sides, height, width)
        kept = ops.where(cuts, 1 - area, kept) if mixup else 1 - area
    kept = ops.where(mixed, kept, 1.0)

    own = ops.reshape(images, (-1, 2, *images.shape[1:]))
    other = ops.flip(own, axis=1)
    blend = kept[:, None, None, None, None]
    if mask is not None:
        blended = blend * own + (1 - blend) * other if mixup else own
        cut = ops.where(mask[:, None], other, own)
        switched = cuts[:, None, None, None, None] if mixup else True
        result = ops.where(switched, cut, blended)
    else:
        result = blend * own + (1 - blend) * other
    labels = ops.reshape(targets, (-1, 2, targets.shape[-1]))
    share = kept[:, None, None]
    mixed_labels = share * labels + (1 - share) * ops.flip(labels, axis=1)
    return ops.reshape(result, ops.shape(images)), ops.reshape(mixed_labels, ops.shape(targets))
