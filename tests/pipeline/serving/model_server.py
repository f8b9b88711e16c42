"""What TF Serving makes of a directory of versions and of `models.config`, after its source.

`ServerCore::ReloadConfig` (model_servers/server_core.cc) updates the labels before it changes what
is loaded, and gives up altogether when a label would move to a version that is not loaded; with
`--allow_version_labels_for_unavailable_models` a label that is new may lead anywhere.
"""

from pathlib import Path

from pipeline.serving import configs, versions


class RefusedError(Exception):
    """The server keeps the configuration that it has."""


class ModelServer:
    """A server of one model, which looks at files and configuration when it is told to.

    Args:
        base: The directory of the model's versions.
    """

    def __init__(self, base: Path):
        self._base = base
        self._count = 1
        self.loaded: set[int] = set()
        self.labels: dict[str, int] = {}

    def poll_versions(self) -> None:
        """Loads the highest versions, as many as it was told to, and unloads the others."""
        self.loaded = set(versions.versions(self._base)[-self._count :])

    def poll_configuration(self) -> None:
        """Reads the configuration anew.

        Raises:
            RefusedError: A label that is in use would move to a version that is not loaded.
        """
        text = (self._base.parent / configs.MODELS).read_text()
        (model,) = configs.parse_models(text, configs.MODELS)
        for label, number in model.version_labels.items():
            if self.labels.get(label, number) != number and number not in self.loaded:
                raise RefusedError(f"{label} is to be {number}, but {self.loaded} are loaded")
        self.labels = dict(model.version_labels)
        self._count = model.model_version_policy.latest.num_versions
        self.poll_versions()
