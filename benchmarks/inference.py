"""How fast networks answer on the CPU: what the pipeline exports beside `predict_on_batch`.

The exported SavedModel has its batch norms folded and its variables frozen, takes 8-bit pixels and
normalises them itself; `predict_on_batch` of the peers takes pixels that were normalised before.
"""

from collections.abc import Sequence

from benchmarks.plan import Aim, Benchmark, Case, Side
from benchmarks.training_step import BFLOAT16, FLOAT32, KERAS_HUB

_SIDES = "benchmarks.sides.inference:"
_EXPORTED = 1.12


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    if quick:
        return _case("CIFAR ResNet-20", _cifar("cifar_resnet20", 8, 1), _plain, 40)[:1]
    large = {"size": 224, "classes": 1000, "batch": 8, "requests": 4}
    return [
        *_case("ResNet-50 v1", {"model": "keras_resnet50", **large}, _applications, 65),
        *_case("ResNet-18", {"model": "resnet18", **large}, _keras_hub, 28),
        *_case("CIFAR ResNet-20", _cifar("cifar_resnet20", 128, 4), _plain, 16),
        *_case("WRN-28-10", _cifar("wrn_28_10", 16, 1), _plain, 22),
    ]


def _cifar(model: str, batch: int, requests: int) -> dict:
    return {"model": model, "size": 32, "classes": 10, "batch": batch, "requests": requests}


def _applications(setting: dict, precision: str) -> list[Side]:
    found = [_peer("keras.applications", "Applications", setting, precision, Aim(_EXPORTED))]
    if precision != FLOAT32:
        return [*found, _peer("keras.applications", "Applications", setting, FLOAT32)]
    arguments = {**setting, "precision": precision}
    # What folding brings, and what exporting does.
    return [
        *found,
        Side("exported as trained", _SIDES + "AsTrained", arguments),
        Side("keras_resnet, predict_on_batch", _SIDES + "OursInKeras", arguments),
    ]


def _keras_hub(setting: dict, precision: str) -> list[Side]:
    return [
        _peer(
            "KerasHub",
            "KerasHub",
            setting,
            precision,
            needs=("keras_hub",),
            environment=KERAS_HUB,
        )
    ]


def _plain(setting: dict, precision: str) -> list[Side]:
    return [_peer("plain Keras", "PlainKeras", setting, precision)]


def _peer(
    name: str, target: str, setting: dict, precision: str, aim: Aim | None = None, **where
) -> Side:
    arguments = {**setting, "precision": precision}
    return Side(f"{name}, {precision}", _SIDES + target, arguments, aim, **where)


def _case(name: str, setting: dict, peers, seconds: float) -> Sequence[Case]:
    found = []
    for precision in (FLOAT32, BFLOAT16):
        arguments = {**setting, "precision": precision}
        found.append(
            Case(
                f"{name}, {precision}, batch {setting['batch']}",
                "images",
                (
                    Side("exported", _SIDES + "Exported", arguments),
                    *peers(setting, precision),
                ),
                rounds=4,
                together=True,
                seconds=seconds,
            )
        )
    return found


BENCHMARK = Benchmark(
    "inference", "How many images a second does a network classify on the CPU?", cases
)
