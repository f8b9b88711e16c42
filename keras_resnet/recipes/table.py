"""The recipes of the papers by name."""

import difflib
import fnmatch

from keras_resnet.recipes.recipe import Recipe

# On 45,000 images, 64,000 steps of 128: 182 epochs.
_CIFAR = {
    "batch_size": 128,
    "learning_rate": 0.1,
    "schedule": "multistep",
    "momentum": 0.9,
    "decay_norm_and_bias": True,
    "random_shift": 4,
    "padding": "constant",
    "random_flip": True,
    "train_size": 32,
    "test_size": 32,
}
_IMAGENET = {
    "epochs": 90,
    "batch_size": 256,
    "learning_rate": 0.1,
    "schedule": "multistep",
    "milestones": (1 / 3, 2 / 3),
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "decay_norm_and_bias": True,
    "random_flip": True,
    "train_size": 224,
    "test_size": 224,
    "test_crop": 0.875,
}
_RSB = {
    "batch_size": 2048,
    "optimizer": "lamb",
    "learning_rate_scaling": "sqrt",
    "warmup_epochs": 5.0,
    "warmup_learning_rate": 1e-4,
    "minimum_learning_rate": 1e-6,
    "weight_decay": 0.02,
    "weight_decay_form": "decoupled",
    "loss": "bce",
    "bce_threshold": 0.2,
    # timm's LAMB clips by default.
    "clip_norm": 1.0,
    "random_crop": (0.08, 1.0),
    "random_flip": True,
    "rand_augment": 2,
    "rand_augment_std": 0.5,
    "rand_augment_probability": 0.5,
    "mixup": 0.1,
    "cutmix": 1.0,
    "test_size": 224,
    "test_crop": 0.95,
}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="default",
            reference="what the pipeline trains with unless told otherwise",
            epochs=20,
            learning_rate_scaling="none",
            warmup_epochs=1.0,
            nesterov=True,
            weight_decay=1e-4,
        ),
        Recipe(
            name="he2015_cifar",
            reference="He et al., 2015, section 4.2, https://arxiv.org/abs/1512.03385",
            epochs=182,
            milestones=(0.5, 0.75),
            weight_decay=1e-4,
            **_CIFAR,
        ),
        Recipe(
            name="he2015_imagenet",
            reference="He et al., 2015, section 3.4, https://arxiv.org/abs/1512.03385",
            # 224 of a shorter side of 480 to 256.
            random_crop=((224 / 480) ** 2, (224 / 256) ** 2),
            crop_ratio=(1.0, 1.0),
            lighting=0.1,
            **_IMAGENET,
        ),
        Recipe(
            name="wrn_cifar",
            reference="Zagoruyko and Komodakis, 2016, section 3, https://arxiv.org/abs/1605.07146",
            epochs=200,
            milestones=(0.3, 0.6, 0.8),
            decay_factor=0.2,
            nesterov=True,
            weight_decay=5e-4,
            **{**_CIFAR, "padding": "reflect"},
        ),
        Recipe(
            name="wrn_imagenet",
            reference="Zagoruyko and Komodakis, 2016, section 3, https://arxiv.org/abs/1605.07146",
            nesterov=True,
            random_crop=(0.08, 1.0),
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            lighting=0.1,
            **_IMAGENET,
        ),
        Recipe(
            name="stochastic_depth_cifar",
            reference="Huang et al., 2016, section 4, https://arxiv.org/abs/1603.09382",
            epochs=500,
            milestones=(0.5, 0.75),
            nesterov=True,
            weight_decay=1e-4,
            drop_path_rate=0.5,
            drop_path_mode="batch",
            drop_path_schedule="linear",
            **_CIFAR,
        ),
        Recipe(
            name="rsb_a2",
            reference="Wightman et al., 2021, table 2, https://arxiv.org/abs/2110.00476",
            epochs=300,
            learning_rate=5e-3,
            rand_augment_magnitude=7.0,
            repeated_augmentation=3,
            drop_path_rate=0.05,
            train_size=224,
            **_RSB,
        ),
        Recipe(
            name="rsb_a3",
            reference="Wightman et al., 2021, table 2, https://arxiv.org/abs/2110.00476",
            epochs=100,
            learning_rate=8e-3,
            rand_augment_magnitude=6.0,
            train_size=160,
            **_RSB,
        ),
        Recipe(
            name="resnet_rs",
            reference="Bello et al., 2021, section 4 and table 8, https://arxiv.org/abs/2103.07579",
            epochs=350,
            batch_size=4096,
            # 0.1 for each 256 examples.
            learning_rate=1.6,
            warmup_epochs=5.0,
            warmup_learning_rate=0.0,
            nesterov=True,
            weight_decay=4e-5,
            label_smoothing=0.1,
            ema_decay=0.9999,
            random_crop=(0.08, 1.0),
            random_flip=True,
            rand_augment=2,
            rand_augment_magnitude=10.0,
            rand_augment_increasing=False,
            drop_path_schedule="stage",
            dropout_rate=0.25,
            train_size=160,
            test_size=160,
            test_crop=0.875,
        ),
    )
}


def list_recipes(pattern: str = "*") -> list[str]:
    """Names of the recipes that match a shell pattern, sorted.

    Example:

    ```python
    keras_resnet.recipes.list_recipes("*cifar")
    ```
    """
    return sorted(fnmatch.filter(RECIPES, pattern))


def get(name: str) -> Recipe:
    """Returns the recipe of a name.

    Raises:
        ValueError: If there is none of this name.
    """
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(str(name), RECIPES)
    perhaps = f", perhaps {' or '.join(map(repr, close))}" if close else ""
    raise ValueError(
        f"`name` must be one of {', '.join(list_recipes())}{perhaps}. Received: name={name!r}"
    )
