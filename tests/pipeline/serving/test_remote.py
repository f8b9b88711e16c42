import hashlib
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.components import pusher
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.serving import configs, labels, push, remote, versions
from tests.pipeline.serving import object_store
from tests.pipeline.serving.models import saved_model

DESTINATION = "objects://bucket/models"
BASE = f"{DESTINATION}/m"


@pytest.fixture
def store(monkeypatch):
    """An empty object store."""
    made = object_store.Store()
    monkeypatch.setattr(object_store, "STORE", made)
    monkeypatch.setattr(remote, "_PATIENCE", 0.0)
    return made


@pytest.fixture
def model(tmp_path):
    """A function that returns a model of the given content."""

    def make(content: str):
        root = tmp_path / "sources" / content
        return root if root.exists() else saved_model(root, content.encode())

    return make


def complete(store):
    """Returns what a reader takes for versions: the numbers that have a `saved_model.pb`."""
    return {
        int(path.split("/")[-2])
        for path in store.objects
        if path.startswith(f"{BASE}/") and path.endswith("/saved_model.pb")
    }


def holds(store, number, model):
    """Whether a version has exactly the bytes of the model."""
    prefix = f"{BASE}/{number}/"
    found = {
        path.removeprefix(prefix): hashlib.sha256(content).hexdigest()
        for path, content in store.objects.items()
        if path.startswith(prefix) and not path.endswith((versions.RECORD, versions.WARMUP))
    }
    return found == versions.content(model)


def label_map(store):
    (listed,) = configs.parse_models(
        store.objects[f"{DESTINATION}/{configs.MODELS}"].decode(), configs.MODELS
    )
    return dict(listed.version_labels), listed.base_path


def test_files_come_first_and_the_saved_model_last(store, model, tmp_path):
    warmup = tmp_path / "requests"
    warmup.write_bytes(b"requests")
    written = []
    store.on_write = written.append
    pushed = remote.push(model("a"), BASE, warmup=warmup, record={"metrics": {"accuracy": 1.0}})
    assert (pushed.path, pushed.number, pushed.is_new) == (f"{BASE}/1", 1, True)
    of_version = [path for path in written if path.startswith(f"{BASE}/1/")]
    assert of_version[-1] == f"{BASE}/1/saved_model.pb"
    assert len(of_version) == len(set(of_version)) == 6
    assert holds(store, 1, model("a"))
    assert store.objects[f"{BASE}/1/{versions.WARMUP}"] == b"requests"
    record = json.loads(store.objects[f"{BASE}/1/{versions.RECORD}"])
    assert (record["digest"], record["metrics"]) == (pushed.digest, {"accuracy": 1.0})
    assert label_map(store) == ({"stable": 1}, f"{DESTINATION}/m")
    assert f"{DESTINATION}/{configs.BATCHING}" in store.objects


def test_an_equal_model_is_pushed_once(store, model):
    numbers = [remote.push(model(content), BASE).number for content in "aabbab"]
    assert numbers == [1, 1, 2, 2, 3, 4]


def test_a_push_that_failed_anywhere_goes_on_and_never_shows_a_part(store, model):
    """After every possible number of calls, in both ways in which a write can fail."""
    remote.push(model("a"), BASE)
    before = dict(store.objects)
    failures = 0
    for store.cut in (False, True):
        for calls in itertools.count():
            store.objects = dict(before)
            store.left = calls
            try:
                remote.push(model("b"), BASE)
                break
            except PipelineError as error:
                assert "the network is gone" in str(error)
                assert "goes on where this one stopped" in str(error)
            failures += 1
            store.left = None
            for number in complete(store):
                # A part of `saved_model.pb` cannot be removed once the network is gone.
                if not (store.cut and store.log[-2][0] == "write"):
                    assert holds(store, number, model({1: "a"}.get(number, "b")))
            assert holds(store, 1, model("a"))
            pushed = remote.push(model("b"), BASE)
            assert holds(store, pushed.number, model("b"))
            assert label_map(store)[0] == {"stable": pushed.number}
            assert all(
                holds(store, number, model({1: "a"}.get(number, "b"))) for number in complete(store)
            )
            store.log.clear()
    assert failures > 40


def test_what_was_uploaded_is_not_uploaded_again(store, model):
    store.left = 12
    with pytest.raises(PipelineError):
        remote.push(model("a"), BASE)
    store.left = None
    there = {path for path in store.objects if "/variables/" in path}
    assert there
    written = []
    store.on_write = written.append
    assert remote.push(model("a"), BASE).number == 1
    assert not there & set(written)


def test_an_upload_that_was_damaged_is_repaired_or_refused(store, model):
    store.left = 12
    with pytest.raises(PipelineError):
        remote.push(model("a"), BASE)
    store.left = None
    (damaged, *_) = (path for path in store.objects if "/variables/" in path)
    store.objects[damaged] = b"x" * len(store.objects[damaged])
    assert remote.push(model("a"), BASE).number == 1
    assert holds(store, 1, model("a"))

    def damage(path):
        if path.endswith("part-1"):
            store.objects[path] = b"other bytes"

    store.on_write = damage
    with pytest.raises(PipelineError, match=r"part-1: reads back as other bytes"):
        remote.push(model("b"), BASE)
    assert complete(store) == {1}


def test_another_model_does_not_go_on_where_one_stopped(store, model):
    store.left = 12
    with pytest.raises(PipelineError):
        remote.push(model("a"), BASE)
    store.left = None
    assert remote.push(model("b"), BASE).number == 2
    # What would be lower than what is served now gets a new number.
    assert remote.push(model("a"), BASE).number == 3
    assert complete(store) == {2, 3}


def test_of_two_that_want_one_number_both_get_another(store, model):
    """The second push begins between the claim of the first and its look for others."""
    numbers = []

    def barge(path):
        if "/.claims/1." in path and not numbers:
            numbers.append(None)
            numbers[0] = remote.push(model("b"), BASE).number

    store.on_write = barge
    numbers.append(remote.push(model("a"), BASE).number)
    assert len(set(numbers)) == 2
    assert holds(store, numbers[0], model("b"))
    assert holds(store, numbers[1], model("a"))


def test_eight_that_push_at_once_get_eight_numbers(store, model):
    models = [model(content) for content in "abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda own: remote.push(own, BASE).number, models))
    assert len(set(numbers)) == 8
    assert complete(store) == set(numbers)
    assert all(holds(store, number, own) for number, own in zip(numbers, models, strict=True))


def test_a_number_is_not_given_again_when_the_version_is_gone(store, model):
    remote.push(model("a"), BASE)
    remote.push(model("b"), BASE)
    for path in [path for path in store.objects if path.startswith(f"{BASE}/2/")]:
        del store.objects[path]
    assert remote.push(model("c"), BASE).number == 3


def test_keep_last_takes_the_saved_model_away_first(store, model):
    for content in "abc":
        remote.push(model(content), BASE)
    store.log.clear()
    pushed = remote.push(model("d"), BASE, keep_last=1)
    assert pushed.removed == (1, 2)
    assert complete(store) == {3, 4}
    assert not any(path.startswith(f"{BASE}/1/") for path in store.objects)
    deleted = [path for call, path in store.log if call == "delete"]
    assert deleted[0] == f"{BASE}/1/saved_model.pb"


def test_rollback_promote_and_describe_as_on_a_disk(store, model):
    for content in "ab":
        remote.push(model(content), BASE, record={"metrics": {"accuracy": content}})
    remote.push(model("c"), BASE, label="canary")
    assert remote.promote(BASE, 3, "stable").labels == {"stable": 3, "canary": 3}
    pushed, target = remote.rollback(BASE)
    assert (pushed.number, target) == (4, 2)
    assert holds(store, 4, model("b"))
    found = remote.describe(BASE)
    assert [info.number for info in found] == [1, 2, 3, 4]
    assert found[3].labels == ("stable", "canary")
    assert found[3].record["republished_from"] == 2
    assert found[3].record["metrics"] == {"accuracy": "b"}
    assert found[0].bytes > 3000
    assert [info.is_withdrawn for info in found] == [False, False, True, False]
    with pytest.raises(PipelineError, match="is version 3 of m again, which a rollback"):
        remote.push(model("c"), BASE)
    assert complete(store) == {1, 2, 3, 4}
    with pytest.raises(UsageError, match="version 1 of m: servers have only 3, 4 loaded"):
        remote.promote(BASE, 1, "stable")
    assert remote.push(model("c"), BASE, again=True).number == 5
    assert not any(info.is_withdrawn for info in remote.describe(BASE)[2:3])
    remote.promote(BASE, 4, "stable")
    assert remote.describe(BASE)[4].is_withdrawn


def test_a_damaged_version_is_not_rolled_back_to(store, model):
    remote.push(model("a"), BASE)
    remote.push(model("b"), BASE)
    store.objects[f"{BASE}/1/variables/part-0"] = b"damaged"
    with pytest.raises(DataError, match=r"/1: is damaged"):
        remote.rollback(BASE)
    assert complete(store) == {1, 2}


def test_a_label_of_a_version_that_is_gone_is_not_given_to_servers(store, model):
    for content in "ab":
        remote.push(model(content), BASE)
    del store.objects[f"{BASE}/2/saved_model.pb"]
    remote.push(model("c"), BASE, label="canary")
    assert label_map(store)[0] == {"canary": 3}


def test_the_component_pushes_to_uris(store, model):
    parameters = pusher.Parameters(destination=DESTINATION, serving_root="/models")
    pusher.check(parameters)
    pushed = pusher.push_to(model("a"), parameters, "m", {})
    assert pushed.path == f"{BASE}/1"
    assert label_map(store) == ({"stable": 1}, "/models/m")


def test_a_model_that_is_not_there_is_wrong_use(store):
    for act in (remote.describe, remote.rollback):
        with pytest.raises(UsageError, match="no versions there"):
            act(BASE)
    assert not store.objects


def test_both_kinds_of_destinations_hold_the_same(store, model, tmp_path):
    """What was pushed to a directory and what was pushed to a store differ in the time alone."""
    base = tmp_path / "models" / "m"
    for content in "aba":
        push.push(model(content), base)
        remote.push(model(content), BASE)
    local = {
        path.relative_to(base.parent).as_posix(): path.read_bytes()
        for path in base.parent.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    there = {
        path.removeprefix(f"{DESTINATION}/"): content
        for path, content in store.objects.items()
        if "/.claims/" not in path
    }
    assert there.keys() == local.keys()
    differing = {name for name in there if there[name] != local[name]}
    assert differing <= {configs.MODELS, *(f"m/{n}/{versions.RECORD}" for n in (1, 2, 3))}
    assert labels.parse(there[f"m/{labels.FILE}"].decode(), "") == labels.load(base, [1, 2, 3])
