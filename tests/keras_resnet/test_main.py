import subprocess
import sys

from keras_resnet.__main__ import main


def test_lists_what_a_pattern_matches(capsys):
    main(["list", "wide*"])
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "image", "classes", "trainable", "non-trainable", "MACs"]
    wide101, wide50 = (row.split() for row in rows)
    assert wide101[0] == "wide_resnet101_2"
    assert wide50 == [
        *("wide_resnet50_2", "224x224", "1000"),
        *("68,883,240", "68,224", "11,398,021,120"),
    ]


def test_says_when_nothing_matches(capsys):
    main(["list", "vgg*"])
    assert capsys.readouterr().out == "No network matches 'vgg*'.\n"


def test_import_is_light():
    """The package adds little to the import of Keras, and no backend but Keras' own."""
    program = """
import sys, time
import keras
before = set(sys.modules)
start = time.process_time()
import keras_resnet
seconds = time.process_time() - start
backends = {"tensorflow", "jax", "torch", "numpy"}
print(seconds, {name.partition(".")[0] for name in set(sys.modules) - before} & backends or "none")
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    seconds, new_backends = result.stdout.split(maxsplit=1)
    # The promise is 0.1 s; CPU time of a busy machine is more than that of an idle one.
    assert float(seconds) < 0.5
    assert new_backends.strip() == "none"
