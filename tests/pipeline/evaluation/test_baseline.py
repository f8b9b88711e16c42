import pytest

from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.evaluation import baseline
from pipeline.serving import push, remote, versions
from tests.pipeline.serving import object_store
from tests.pipeline.serving.models import saved_model

URI = "objects://bucket/models/m"


@pytest.fixture
def store(monkeypatch):
    made = object_store.Store()
    monkeypatch.setattr(object_store, "STORE", made)
    monkeypatch.setattr(remote, "_PATIENCE", 0.0)
    return made


@pytest.fixture(params=["local", "remote"])
def destination(request, tmp_path, store):
    """Where models are pushed to, and what pushes them and takes them back."""
    if request.param == "local":
        return tmp_path / "saved_models" / "m", push
    return URI, remote


@pytest.fixture
def model(tmp_path):
    def make(content):
        root = tmp_path / "sources" / content
        return root if root.exists() else saved_model(root, content.encode())

    return make


def test_it_is_what_is_served_and_never_the_candidate_itself(destination, model):
    base, pushing = destination

    def found(candidate):
        known = baseline.find(base, versions.digest(model(candidate)))
        return known and str(known.place).rpartition("/")[2]

    assert found("a") is None
    pushing.push(model("a"), base)
    assert (found("a"), found("b")) == (None, "1")
    pushing.push(model("b"), base)
    assert (found("b"), found("c")) == ("1", "2")
    # One that is tried on some is not yet in production, for itself or for others.
    pushing.push(model("c"), base, label="canary")
    assert (found("c"), found("d"), found("b")) == ("2", "2", "1")
    pushing.promote(base, 3, "stable")
    assert (found("c"), found("d")) == ("2", "3")
    pushing.rollback(base, 1)
    # Nothing was in production before "a", and "c" was taken out of it.
    assert (found("d"), found("a"), found("c")) == ("4", None, "4")


def test_a_canary_that_never_was_stable_is_not_what_was_replaced(destination, model):
    base, pushing = destination
    for content, label in (("a", "stable"), ("b", "canary"), ("c", "stable")):
        pushing.push(model(content), base, label=label)
    # As before the push: so a second run finds its evaluation in the cache.
    assert str(baseline.find(base, versions.digest(model("c"))).place).endswith("/1")


def test_its_files_are_at_hand_wherever_it_is(destination, model, tmp_path):
    base, pushing = destination
    pushing.push(model("a"), base)
    known = baseline.find(base, "another")
    with baseline.local(known, tmp_path) as folder:
        assert versions.digest(folder) == known.digest == versions.digest(model("a"))
    assert folder.exists() == (pushing is push)


def test_what_was_altered_on_an_object_store_is_not_compared_with(store, model, tmp_path):
    remote.push(model("a"), URI)
    store.objects[f"{URI}/1/saved_model.pb"] = b"another graph"
    known = baseline.find(URI, "another")
    with (
        pytest.raises(DataError, match="its files have the digest"),
        baseline.local(known, tmp_path),
    ):
        pass


def test_an_object_that_stands_for_a_folder_is_no_file_of_the_model(store, model, tmp_path):
    remote.push(model("a"), URI)
    store.objects[f"{URI}/1/"] = store.objects[f"{URI}/1/variables/"] = b""
    known = baseline.find(URI, "another")
    with baseline.local(known, tmp_path) as folder:
        assert versions.digest(folder) == versions.digest(model("a"))


def test_an_object_store_that_fails_is_named_with_what_to_do(store, model, tmp_path):
    remote.push(model("a"), URI)
    known = baseline.find(URI, "another")
    store.left = 1
    with (
        pytest.raises(PipelineError, match=r"/1: .*the network is gone"),
        baseline.local(known, tmp_path),
    ):
        pass


def test_what_cannot_be_read_is_an_error_and_not_a_first_push():
    with pytest.raises(UsageError, match="no file system for nowhere://"):
        baseline.find("nowhere://bucket/m", "another")


def test_a_saved_model_may_be_named_itself(model):
    assert baseline.find(model("a"), "another").place == model("a")
    assert baseline.find(model("a"), versions.digest(model("a"))) is None


def test_versions_without_a_saved_model_and_strange_names_do_not_count(tmp_path, model):
    base = tmp_path / "m"
    push.push(model("a"), base)
    (base / "7").mkdir()
    (base / "notes").mkdir()
    assert baseline.find(base, "another").place == base / "1"
