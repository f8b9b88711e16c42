"""What per-batch stochastic depth saves of a training step.

The 110-layer network of Huang et al. (2016) for images of 32×32, p_L = 0.5, beside the same network
that drops nothing. The stem, the shortcuts and the optimizer are never skipped. XLA's CPU compiler,
which JAX uses, is slow on the long plain network, which the conditionals cut into pieces; there the
peer has the same conditionals and keeps nearly every block, so that only the skipping differs.
"""

from benchmarks.plan import Benchmark, Case, Side

_SIDES = "benchmarks.sides.stochastic_depth:Training"
_RATE = 0.5
_NEARLY_NONE = 0.001
_JAX = {"KERAS_BACKEND": "jax"}
_TENSORFLOW = {"KERAS_BACKEND": "tensorflow"}


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    depth, batch, steps = (8, 4, 1) if quick else (110, 64, 4)
    found = [_case("TensorFlow", depth, batch, steps, _TENSORFLOW, 0.0, "without")]
    if quick:
        return found
    # XLA takes minutes to compile more layers, which is no part of the question.
    kept = _case("JAX", 20, 64, 8, _JAX, _NEARLY_NONE, "nothing dropped, same conditionals")
    return [*found, kept]


def _case(
    backend: str, depth: int, batch: int, steps: int, environ: dict, other: float, said: str
) -> Case:
    def side(name: str, rate: float) -> Side:
        arguments = {"depth": depth, "rate": rate, "batch": batch, "steps": steps}
        needs = (environ["KERAS_BACKEND"],)
        return Side(name, _SIDES, arguments, environ=environ, needs=needs)

    survive = 1 - _RATE * expected_drop(depth)
    return Case(
        f"training, {depth} layers, batch {batch}, {backend}",
        "images",
        (side("per-batch stochastic depth", _RATE), side(said, other)),
        rounds=4,
        together=True,
        seconds=55,
        note=f"{survive:.3f} of the blocks survive, so that 1/{survive:.3f} = {1 / survive:.2f} times "
        "is the limit",
    )


def expected_drop(depth: int) -> float:
    """Returns the share of blocks that is dropped on average, for p_L = 0, of the linear decay."""
    blocks = (depth - 2) // 2
    return (blocks + 1) / (2 * blocks)


BENCHMARK = Benchmark(
    "stochastic_depth", "How much of a training step does per-batch stochastic depth save?", cases
)
