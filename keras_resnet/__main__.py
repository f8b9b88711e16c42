"""`python -m keras_resnet list [PATTERN]`: the networks, their parameters and MACs."""

import argparse

from keras_resnet.analysis import count
from keras_resnet.variants import SPECS, list_models


def main(arguments: list[str] | None = None) -> None:
    """Prints what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m keras_resnet", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="table of the networks")
    listing.add_argument(
        "pattern", nargs="?", default="*", help="shell pattern of names, such as 'wide*'"
    )
    print(table(parser.parse_args(arguments).pattern))


def table(pattern: str = "*") -> str:
    """A line for each network: its image, classes, parameters and multiply-accumulates."""
    names = list_models(pattern)
    if not names:
        return f"No network matches {pattern!r}."
    header = ("name", "image", "classes", "trainable", "non-trainable", "MACs")
    rows = [header]
    for name in names:
        config, counted = SPECS[name], count(SPECS[name])
        rows.append(
            (
                name,
                f"{config.image_size}x{config.image_size}",
                f"{config.default_classes}",
                f"{counted.trainable:,}",
                f"{counted.non_trainable:,}",
                f"{counted.macs:,}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = (
        [
            row[0].ljust(widths[0]),
            *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
        ]
        for row in rows
    )
    return "\n".join("  ".join(line) for line in lines)


if __name__ == "__main__":
    main()
