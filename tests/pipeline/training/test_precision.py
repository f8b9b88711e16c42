import pytest
import tensorflow as tf

from pipeline.training import precision
from pipeline.training.precision import LossScale, Precision

_X86 = "processor : 0\nflags : fpu sse avx512f{}\nbugs :\n"


@pytest.fixture
def hardware(monkeypatch, tmp_path):
    """Sets the flags of the processor and what the trial measures."""
    precision._fastest.cache_clear()
    tried = []

    def set_(flags, gain):
        (tmp_path / "cpuinfo").write_text(flags)
        monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(precision, "probe", lambda: tried.append(gain) or gain)
        return tried

    yield set_
    precision._fastest.cache_clear()


@pytest.mark.parametrize("asked", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_what_is_asked_for_is_taken(asked, hardware):
    tried = hardware(_X86.format(" avx512_bf16"), 2.0)
    assert precision.resolve(asked) == Precision(asked, "as configured")
    assert not tried


@pytest.mark.parametrize(
    ("flags", "gain", "policy"),
    [
        (_X86.format(" avx512_bf16"), 1.4, "mixed_bfloat16"),
        (_X86.format(" amx_bf16 amx_tile"), 3.0, "mixed_bfloat16"),
        ("Features : fp asimd bf16 sve\n", 1.2, "mixed_bfloat16"),
        (_X86.format(" avx512_bf16"), 1.02, "float32"),
        (_X86.format(" avx512_bf16"), 0.5, "float32"),
    ],
)
def test_the_processor_is_tried_once(hardware, flags, gain, policy):
    tried = hardware(flags, gain)
    found = precision.resolve("auto")
    assert found.policy == policy
    assert f"{gain:.2f} times as fast" in found.reason
    assert precision.resolve("auto") is found
    assert len(tried) == 1


@pytest.mark.parametrize("flags", [_X86.format(""), _X86.format(" bf16x"), ""])
def test_a_processor_without_bfloat16_is_not_tried(hardware, flags):
    tried = hardware(flags, 9.0)
    assert precision.resolve("auto").policy == "float32"
    assert not tried


def test_a_gpu_goes_by_its_generation(hardware, monkeypatch):
    hardware(_X86.format(" avx512_bf16"), 9.0)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one"])
    for capability, policy in (((9, 0), "mixed_bfloat16"), ((7, 5), "float32")):
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda device, found=capability: {"compute_capability": found, "device_name": "A"},
        )
        precision._fastest.cache_clear()
        assert precision.resolve("auto").policy == policy


@pytest.mark.slow
def test_the_trial_measures_something():
    assert 0.02 < precision.probe() < 50


def test_the_loss_scale_doubles_after_good_steps_and_halves_after_a_bad_one():
    scale = LossScale(initial=8.0, growth_steps=3)
    found = []
    for good in (True, True, True, True, True, False, True, True, True):
        scale.grow() if good else scale.shrink()
        found.append(float(scale.factor))
    assert found == [8, 8, 16, 16, 16, 8, 8, 8, 16]
