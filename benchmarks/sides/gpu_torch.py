"""timm's networks on torch: channels last, compiled, in bfloat16 with float32 weights."""

import timm
import torch

_ON_DEVICE = 2  # batches


class Timm:
    """A number of batches is a turn.

    Args:
        model: Name of the network in timm.
        size: Height and width of an image in pixels.
        classes: Of the classifier.
        batch: Images in a batch.
        count: Batches of a turn.
        training: Whether to train, or to classify.
    """

    def __init__(self, model: str, size: int, classes: int, batch: int, count: int, training: bool):
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        self._batch, self._count = batch, count
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        network = timm.create_model(model, num_classes=classes).to(
            self._device, memory_format=torch.channels_last
        )
        network.train(training)
        self._network = torch.compile(network)
        self._loss = torch.nn.CrossEntropyLoss()
        self._optimizer = torch.optim.SGD(
            network.parameters(), lr=0.01, momentum=0.9, nesterov=True
        )
        self._do = self._train if training else self._classify
        self._batches = [
            (
                torch.randn(batch, 3, size, size, device=self._device).to(
                    memory_format=torch.channels_last
                ),
                torch.randint(classes, (batch,), device=self._device),
            )
            for _ in range(_ON_DEVICE)
        ]

    def run(self) -> int:
        for number in range(self._count):
            self._do(*self._batches[number % _ON_DEVICE])
        if self._device == "cuda":
            torch.cuda.synchronize()
        return self._count * self._batch

    def gpu_memory(self) -> int | None:
        """Returns the peak in bytes; None on a CPU."""
        return torch.cuda.max_memory_allocated() if self._device == "cuda" else None

    def _train(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._device, torch.bfloat16):
            loss = self._loss(self._network(images), labels)
        loss.backward()
        self._optimizer.step()

    @torch.inference_mode()
    def _classify(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        with torch.autocast(self._device, torch.bfloat16):
            self._network(images)
