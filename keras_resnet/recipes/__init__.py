"""How the papers of the family train: optimizer, schedule, loss and augmentation, as Keras objects.

Nothing in here needs TensorFlow: a recipe trains on every backend of Keras.
"""

from keras_resnet.recipes.augmentation import Augmentation
from keras_resnet.recipes.batches import Batches
from keras_resnet.recipes.draws import Draws
from keras_resnet.recipes.losses import RecipeLoss
from keras_resnet.recipes.optimizers import LAMB, SGD, AdamW
from keras_resnet.recipes.rand_augment import RandAugment
from keras_resnet.recipes.recipe import Recipe
from keras_resnet.recipes.schedules import Schedule
from keras_resnet.recipes.table import RECIPES, get, list_recipes

__all__ = [
    "LAMB",
    "RECIPES",
    "SGD",
    "AdamW",
    "Augmentation",
    "Batches",
    "Draws",
    "RandAugment",
    "Recipe",
    "RecipeLoss",
    "Schedule",
    "get",
    "list_recipes",
]
