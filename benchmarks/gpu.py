"""How fast training and inference are on a GPU: the network on JAX beside timm's on torch.

Both take batches that are on the GPU already, in bfloat16 with float32 weights; timm's network is
compiled by `torch.compile` and has its channels last.
"""

from benchmarks.plan import Aim, Benchmark, Case, Environment, Side

_TIMM = Environment("timm", ("torch>=2.6", "timm>=1,<2"))


def cases(quick: bool) -> list[Case]:
    """Returns the cases; the quick ones take whatever device there is."""
    if quick:
        small = {"model": "resnet18", "size": 64, "classes": 10, "batch": 4, "count": 1}
        return [
            _case("training, ResNet-18", small, True, False),
            _case("inference, ResNet-18", small, False, False),
        ]
    large = {"model": "resnet50", "size": 224, "classes": 1000, "batch": 256}
    return [
        _case("training, ResNet-50", {**large, "count": 30}, True, True),
        _case("inference, ResNet-50", {**large, "count": 60}, False, True),
    ]


def _case(name: str, setting: dict, training: bool, gpu: bool) -> Case:
    arguments = {**setting, "training": training}
    # Each is given a part of the GPU's memory, since both processes live at the same time.
    jax = {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}
    target = "benchmarks.sides."
    return Case(
        f"{name}, bfloat16, batch {setting['batch']}",
        "images",
        (
            Side(
                "keras_resnet on JAX",
                f"{target}gpu_jax:{'Training' if training else 'Inference'}",
                setting,
                environ=jax,
                needs=("jax",),
                gpu=gpu,
            ),
            Side(
                "timm on torch, compiled",
                f"{target}gpu_torch:Timm",
                arguments,
                Aim(ratio=1.0) if gpu else None,
                needs=("torch", "timm"),
                gpu=gpu,
                environment=_TIMM if gpu else None,
            ),
        ),
        seconds=180 if gpu else 60,
    )


BENCHMARK = Benchmark("gpu", "How many images a second does a GPU train on and classify?", cases)
