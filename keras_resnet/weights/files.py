"""Reading the tensors of a weights file, whatever wrote it; nothing in it is ever run."""

import io
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np

from keras_resnet.weights.schemes import KerasApplications, LayerNames, Torch, numbered_names

SUFFIXES = (".safetensors", ".h5", ".keras")
# What marks a `.safetensors` file as one with the names of this package.
FORMAT = {"format": "keras_resnet"}
# What h5py and zipfile raise of a damaged file, depending on where the damage is: h5py gives None for
# what it does not find behind a name, which then lacks what a group has.
_DAMAGE = (
    OSError,
    LookupError,
    RuntimeError,
    TypeError,
    AttributeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(path: Path) -> tuple[dict[str, np.ndarray], LayerNames]:
    """The tensors of a file by name, and what kind of names they are.

    Raises:
        ValueError: If the file is of another kind, or damaged.
        FileNotFoundError: If there is no such file.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"`path` must end in {', '.join(SUFFIXES)}; the pickles of torch (.bin, .pt, .pth) can "
            f"run code when read. Received: path={str(path)!r}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a file. Received: path={str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        if path.suffix == ".keras":
            # Only the weights are read: a model in there could bring code.
            with zipfile.ZipFile(path) as archive:
                weights = archive.read("model.weights.h5")
            return _read_h5(io.BytesIO(weights))
        return _read_h5(path)
    except _DAMAGE as error:
        raise ValueError(
            f"`path` must be a file of weights that is whole; {path.name} cannot be read: {error}. "
            f"Received: path={str(path)!r}"
        ) from error


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], LayerNames]:
    # Here, so that the package can be imported without it.
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            own = (file.metadata() or {}).get("format") == FORMAT["format"]
    except SafetensorError as error:
        raise OSError(error) from error
    return tensors, LayerNames() if own else Torch()


def _read_h5(file: Path | io.BytesIO) -> tuple[dict[str, np.ndarray], LayerNames]:
    with h5py.File(file) as root:
        if "layers" in root:
            tensors = {}
            for layer in root["layers"].values():
                _read_layer(layer, "", tensors)
            return tensors, LayerNames()
        root = root.get("model_weights", root)
        return _read_legacy(root), KerasApplications()


def _read_layer(group: h5py.Group, prefix: str, tensors: dict[str, np.ndarray]) -> None:
    """Collects the weights of a layer of Keras 3 and of those in it."""
    variables = group["vars"]
    path = prefix + variables.attrs["name"]
    for number, name in enumerate(numbered_names(len(variables))):
        tensors[f"{path}/{name}"] = variables[str(number)][()]
    for name, child in group.items():
        if name != "vars" and "vars" in child:
            _read_layer(child, f"{path}/", tensors)


def _read_legacy(root: h5py.Group) -> dict[str, np.ndarray]:
    """The weights that Keras 1 and 2 wrote: one group for each layer."""
    tensors = {}
    for layer, group in root.items():

        def collect(name: str, item: object, layer: str = layer) -> None:
            if isinstance(item, h5py.Dataset):
                weight = name.rpartition("/")[2].partition(":")[0]
                tensors[f"{layer}/{weight}"] = item[()]

        group.visititems(collect)
    return tensors
