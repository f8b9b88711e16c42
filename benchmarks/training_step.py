"""How fast a step of training is on the CPU, beside the networks and the loop of others.

Every side trains on the same 8-bit pixels in memory with Nesterov momentum, in batches of the same
size, on TensorFlow. Ours is the network of this package in the pipeline's loop, which normalises
pixels in the step; the others `fit` networks with the same number of multiplications, on pixels
that were normalised before.
"""

from collections.abc import Sequence

from benchmarks.plan import Aim, Benchmark, Case, Environment, Side

FLOAT32, BFLOAT16 = "float32", "mixed_bfloat16"
KERAS_HUB = Environment("keras_hub", ("keras-hub>=0.32,<0.33",))
_SIDES = "benchmarks.sides.training_step:"


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    if quick:
        return _cifar("cifar_resnet20", batch=8, steps=1, seconds=60)[:1]
    return [
        *_resnet50(),
        *_resnet18(),
        *_cifar("cifar_resnet20", batch=128, steps=4, seconds=24),
        *_cifar("wrn_28_10", batch=8, steps=1, seconds=32),
    ]


def _resnet50() -> list[Case]:
    setting = {"model": "keras_resnet50", "size": 224, "classes": 1000, "batch": 16, "steps": 1}

    def applications(precision: str, ratio: float) -> Side:
        arguments = {**setting, "precision": precision}
        return Side(
            f"keras.applications, {precision}", _SIDES + "Applications", arguments, Aim(ratio)
        )

    in_fit = Side("keras_resnet, fit", _SIDES + "OursInFit", {**setting, "precision": FLOAT32})
    others = {
        FLOAT32: [applications(FLOAT32, 1.0), in_fit],
        BFLOAT16: [applications(BFLOAT16, 1.0), applications(FLOAT32, 1.35)],
    }
    return [
        _case("ResNet-50 v1", setting, precision, peers, 75) for precision, peers in others.items()
    ]


def _resnet18() -> list[Case]:
    setting = {"model": "resnet18", "size": 224, "classes": 1000, "batch": 16, "steps": 1}

    def hub(precision: str) -> Side:
        return Side(
            f"KerasHub, {precision}",
            _SIDES + "KerasHub",
            {**setting, "precision": precision},
            Aim(1.0),
            needs=("keras_hub",),
            environment=KERAS_HUB,
        )

    return [
        _case("ResNet-18", setting, precision, [hub(precision)], 30)
        for precision in (FLOAT32, BFLOAT16)
    ]


def _cifar(model: str, batch: int, steps: int, seconds: float) -> list[Case]:
    """Networks that no other Keras package has: the peer is one of Keras' own layers."""
    setting = {"model": model, "size": 32, "classes": 10, "batch": batch, "steps": steps}

    def plain(precision: str) -> Side:
        arguments = {**setting, "precision": precision}
        return Side(f"plain Keras, {precision}", _SIDES + "PlainKeras", arguments, Aim(1.0))

    names = {"cifar_resnet20": "CIFAR ResNet-20", "wrn_28_10": "WRN-28-10"}
    return [
        _case(names[model], setting, precision, [plain(precision)], seconds)
        for precision in (FLOAT32, BFLOAT16)
    ]


def _case(name: str, setting: dict, precision: str, others: Sequence[Side], seconds: float) -> Case:
    arguments = {**setting, "precision": precision}
    return Case(
        f"{name}, {precision}, batch {setting['batch']}",
        "images",
        (
            Side("keras_resnet, pipeline", _SIDES + "Ours", arguments),
            *others,
        ),
        rounds=3,
        together=True,
        seconds=seconds,
    )


BENCHMARK = Benchmark(
    "training_step", "How many images a second does a step of training take on the CPU?", cases
)
