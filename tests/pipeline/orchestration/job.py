"""A run of small components, for tests that kill it, start it twice, or fill its disk.

`python -m tests.pipeline.orchestration.job ROOT LOG [SECONDS [BYTES]]` appends a line to LOG when a
component begins and one when it ends. Each takes SECONDS and writes BYTES. What it writes is
printed at the end as one digest per component.
"""

import sys
import time
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.orchestration import runner
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.graph import Node
from pipeline.orchestration.view import Silent
from tests.pipeline.orchestration.test_runner import Number, component

# Two branches that run at once, of which one saves what it has, and what needs both.
GRAPH = {
    "Gen": (),
    "Statistics": ("Gen",),
    "Trainer": ("Gen", "Statistics"),
    "Evaluator": ("Trainer",),
    "Checker": ("Trainer",),
    "Pusher": ("Evaluator", "Checker"),
}
_PARTS = 10


class Part:
    """Copies what it reads and adds a line, little by little."""

    def __init__(self, name: str, log: Path, seconds: float, size: int):
        self.name, self.log, self.seconds, self.size = name, log, seconds, size

    def __call__(self, inputs, outputs, parameters, context):
        self._note("begin")
        done = context.state / "done"
        if self.name == "Trainer":
            context.state.mkdir(parents=True, exist_ok=True)
        with (outputs["out"].uri / "content").open("w") as file:
            for part in range(_PARTS):
                if self.name == "Trainer":
                    done.write_text(str(part))
                time.sleep(self.seconds / _PARTS)
                file.write("x" * (self.size // _PARTS))
                file.flush()
            for key in sorted(inputs):
                file.write((inputs[key].uri / "content").read_text()[-1000:])
            file.write(f"\n{self.name}")
        self._note("end")
        return Outcome("well")

    def _note(self, word: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{word} {self.name}\n")


def nodes(log: Path, seconds: float = 0.0, size: int = 10) -> list[Node]:
    """Returns the graph."""
    return [
        Node(
            name,
            component(Part(name, log, seconds, size), RESUMABLE=name == "Trainer"),
            Number(),
            {source: (source, "out") for source in sources},
        )
        for name, sources in GRAPH.items()
    ]


def main(root: str, log: str, seconds: str = "0", size: str = "10") -> int:
    """Runs the graph and returns the exit code."""
    try:
        results = runner.execute(
            nodes(Path(log), float(seconds), int(size)), "job", Path(root), Silent()
        )
    except PipelineError as error:
        print(f"error: {error}")
        return error.exit_code
    for name, result in results.items():
        print(name, result.outputs["out"].digest)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
