import pytest
from google.protobuf import text_format

from pipeline.errors import DataError
from pipeline.serving import configs, push
from pipeline.serving.labels import Ledger
from tests.pipeline.serving.models import saved_model


@pytest.fixture
def wheel():
    """The configuration protos of TF Serving itself."""
    return pytest.importorskip(
        "tensorflow_serving.config.model_server_config_pb2",
        reason="tensorflow-serving-api is not installed; pip install '.[serving]'",
    )


def described(message):
    """Returns number and type of each field by its name, through all messages."""
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            described(field.message_type) if field.message_type else None,
        )
        for field in message.fields
    }


def is_part(own, theirs):
    for name, (number, kind, repeated, inner) in own.items():
        assert theirs[name][:3] == (number, kind, repeated), name
        if inner is not None:
            is_part(inner, theirs[name][3])


def test_the_messages_are_those_of_tf_serving(wheel):
    own = configs._MESSAGES["ModelServerConfig"].DESCRIPTOR
    is_part(described(own), described(wheel.ModelServerConfig.DESCRIPTOR))
    assert own.full_name == wheel.ModelServerConfig.DESCRIPTOR.full_name


def test_models_config_parses_as_its_proto(wheel, tmp_path):
    destination = tmp_path / "saved_models"
    base = destination / "digits"
    for content in (b"1", b"2"):
        push.push(saved_model(tmp_path / content.decode(), content), base)
    push.push(saved_model(tmp_path / "3", b"3"), base, label="canary")
    push.push(saved_model(tmp_path / "other", b"other"), destination / "photos")
    config = text_format.Parse(
        (destination / "models.config").read_text(), wheel.ModelServerConfig()
    ).model_config_list.config
    assert [model.name for model in config] == ["digits", "photos"]
    digits, photos = config
    assert (digits.base_path, digits.model_platform) == ("/models/digits", "tensorflow")
    assert dict(digits.version_labels) == {"stable": 2, "canary": 3}
    # Both labels' versions and the place of one that comes.
    assert digits.model_version_policy.latest.num_versions == 3
    assert dict(photos.version_labels) == {"stable": 1}


def test_batching_and_monitoring_are_what_tf_serving_reads():
    # The forms, wrapped values and all, in which TF Serving's own tests write them.
    assert configs.batching_text().splitlines()[1:] == [
        *("max_batch_size {", "  value: 32", "}"),
        *("batch_timeout_micros {", "}"),  # set, to 0
        *("max_enqueued_batches {", "  value: 100", "}"),
    ]
    assert configs.monitoring_text().splitlines()[1:] == [
        *("prometheus_config {", "  enable: true"),
        *('  path: "/monitoring/prometheus/metrics"', "}"),
    ]


def test_what_a_person_changes_of_batching_and_monitoring_stays(tmp_path):
    push.push(saved_model(tmp_path / "a"), tmp_path / "saved_models" / "m")
    for name in (configs.BATCHING, configs.MONITORING):
        (tmp_path / "saved_models" / name).write_text("mine")
    push.push(saved_model(tmp_path / "b", b"b"), tmp_path / "saved_models" / "m")
    assert (tmp_path / "saved_models" / configs.BATCHING).read_text() == "mine"
    assert (tmp_path / "saved_models" / configs.MONITORING).read_text() == "mine"


def paths(destination):
    text = (destination / configs.MODELS).read_text()
    return [model.base_path for model in configs.parse_models(text, configs.MODELS)]


def test_where_servers_see_the_models_is_kept_until_it_is_said_anew(tmp_path):
    destination = tmp_path / "saved_models"
    for number, root in enumerate((None, "/srv/models/", None)):
        model = saved_model(tmp_path / str(number), b"%d" % number)
        push.push(model, destination / "m", serving_root=root)
        assert paths(destination) == [
            "/models/m" if root is None and not number else "/srv/models/m"
        ]


def test_directories_that_hold_no_model_are_not_listed(tmp_path):
    destination = tmp_path / "saved_models"
    for other in (".hidden/1", "empty", "partial/1", "notes/text"):
        (destination / other).mkdir(parents=True)
    (destination / ".hidden" / "1" / "saved_model.pb").touch()
    saved_model(destination / "by_hand" / "4")
    push.push(saved_model(tmp_path / "a"), destination / "m")
    assert paths(destination) == ["/models/by_hand", "/models/m"]
    text = (destination / configs.MODELS).read_text()
    by_hand, _ = configs.parse_models(text, configs.MODELS)
    assert not by_hand.version_labels
    assert by_hand.model_version_policy.latest.num_versions == 1


def test_a_text_of_somebody_else_is_named():
    with pytest.raises(DataError, match=r"x: was not written by this program \(2:"):
        configs.parse_models("model_config_list {\n nonsense: 1 }", "x")


def test_names_are_written_as_they_are():
    text = configs.models_text({'odd "name"': ([1], Ledger(labels={"stable": 1}))}, None, None)
    (model,) = configs.parse_models(text, "x")
    assert (model.name, model.base_path) == ('odd "name"', '/models/odd "name"')
