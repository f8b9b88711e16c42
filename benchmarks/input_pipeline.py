"""How fast photographs are read, decoded and augmented for training.

All sides read every file each time it comes, in a random order, keep none decoded, and give float32
batches of 32 images, scaled from -1 to 1:

- ours: the records that ExampleGen wrote, through `pipeline.training.inputs`; then what the
  training loop does on the device, augmentation and normalisation, here on the CPU as well;
- Keras: `image_dataset_from_directory`, and Keras' layers in `map`;
- TFDS: the same records through `tfds.builder_from_directory`, and `tf.image` in `map`;
- the decoder: `tf.io.decode_jpeg` of whole files that are in memory, and nothing else.

A crop is 7/8 of the height and of the width, at a random place, scaled to the target.
"""

from benchmarks.plan import Aim, Benchmark, Case, Prepare, Side

CROP, TURN = "crop and flip", "rotation and zoom"
_SIDES = "benchmarks.sides.input_pipeline:"


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    size, seconds, images = (64, 0.3, 48) if quick else (224, 2.0, 600)
    prepare = Prepare(
        _SIDES + "prepare", {"images": images, "height": 384, "width": 512}, seconds=20
    )
    note = f"{images} photographs of 384 by 512 pixels and 58 kB, to {size} by {size}"

    def side(name: str, target: str, kind: str, aim: Aim | None = None) -> Side:
        arguments = {"size": size, "kind": kind, "seconds": seconds}
        return Side(name, _SIDES + target, arguments, aim)

    def case(kind: str, *more: Side) -> Case:
        sides = (
            side("keras_resnet", "Ours", kind),
            side("image_dataset_from_directory, Keras", "Keras", kind, Aim(ratio=2.0)),
            *more,
        )
        return Case(
            kind, "images", sides, rounds=5, seconds=20 * len(sides), prepare=prepare, note=note
        )

    return [
        case(
            CROP,
            side("TFDS, tf.image", "Tfds", CROP),
            side("JPEG decoder alone", "Decoder", CROP, Aim(ratio=0.8)),
        ),
        case(TURN),
    ]


BENCHMARK = Benchmark(
    "input_pipeline", "How many photographs a second are read and augmented for training?", cases
)
