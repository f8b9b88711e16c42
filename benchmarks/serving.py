"""How long an answer about a photograph takes, and how many are given in a second, on the CPU.

The exported SavedModel takes whole files: it decodes, scales and normalises them itself, and names
the five most probable classes. Beside it:

- the same SavedModel given 8-bit pixels of the right size;
- the same network in Keras behind code that decodes and scales with TensorFlow in Python;
- the bare network: `predict_on_batch` of pixels that are ready.

The difference to the last is all that an answer costs beside the network, except that what is
exported has its batch norms folded. No network is between the client and the model.
"""

from benchmarks.plan import Benchmark, Case, Prepare, Side

_SIDES = "benchmarks.sides.serving:"


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    size, requests = (64, 2) if quick else (224, 96)
    prepare = prepared(8 if quick else 64, "resnet18", size)
    found = [_case("one photograph at a time", 1, requests, prepare)]
    return found if quick else [*found, _case("16 photographs at a time", 16, 6, prepare)]


def prepared(images: int, model: str, size: int) -> Prepare:
    """Returns what makes photographs of 384 by 512 pixels and the SavedModel of a network."""
    arguments = {"images": images, "model": model, "size": size}
    return Prepare(_SIDES + "prepare", arguments, seconds=20)


def _case(name: str, batch: int, requests: int, prepare: Prepare) -> Case:
    model = {name: prepare.arguments[name] for name in ("model", "size")}
    size = model["size"]

    def side(says: str, target: str) -> Side:
        arguments = {"batch": batch, "requests": requests, **model}
        return Side(says, _SIDES + target, arguments)

    return Case(
        name,
        "images",
        (
            side("exported, from files", "Files"),
            side("exported, from pixels", "Pixels"),
            side("TensorFlow decodes, Keras predicts", "DecodedInPython"),
            side("bare network in Keras, pixels ready", "Bare"),
        ),
        rounds=3,
        together=True,
        seconds=45,
        prepare=prepare,
        note=f"ResNet-18; 384 by 512 pixels to {size} by {size}; p50 and p99 are of a whole request",
    )


BENCHMARK = Benchmark(
    "serving", "How long does an answer take, with everything from the file to the names?", cases
)
