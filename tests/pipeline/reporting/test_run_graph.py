"""The drawing of a graph: every component and every line, within the frame, none over another."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting import run_graph
from pipeline.reporting.run_graph import Node
from tests.pipeline.reporting import runs

PIPELINE = [Node(name, depends_on) for name, depends_on in runs.GRAPH.items()]


@st.composite
def graphs(draw):
    """Returns components in order, each behind those it depends on."""
    number = draw(st.integers(0, 12))
    return [
        Node(
            f"n{k}", tuple(draw(st.sets(st.sampled_from([f"n{i}" for i in range(k)])))) if k else ()
        )
        for k in range(number)
    ]


def test_layers_follow_the_longest_way():
    assert [[node.name for node in layer] for layer in run_graph.layers(PIPELINE)] == [
        ["ExampleGen"],
        ["StatisticsGen"],
        ["SchemaGen"],
        ["ExampleValidator"],
        ["Trainer"],
        ["Evaluator", "InfraValidator"],
        ["Pusher"],
    ]


@pytest.mark.parametrize("upright", [False, True])
def test_lines_to_the_next_layer_are_near_and_others_far(upright):
    far = {(line.source, line.target): line.far for line in run_graph.draw(PIPELINE, upright).lines}
    assert len(far) == sum(map(len, runs.GRAPH.values()))
    assert not far["Trainer", "Evaluator"] and not far["ExampleValidator", "Trainer"]
    assert far["ExampleGen", "Trainer"] and far["Trainer", "Pusher"]


@given(graphs(), st.booleans())
def test_all_is_drawn_within_the_frame_and_no_box_over_another(nodes, upright):
    drawn = run_graph.draw(nodes, upright)
    assert {box.name for box in drawn.boxes} == {node.name for node in nodes}
    assert {(line.source, line.target) for line in drawn.lines} == {
        (source, node.name) for node in nodes for source in node.depends_on
    }
    for box in drawn.boxes:
        assert 0 <= box.x <= box.x + drawn.box_width <= drawn.width
        assert 0 <= box.y <= box.y + drawn.box_height <= drawn.height
    for box in drawn.boxes:
        for other in drawn.boxes:
            apart_x = abs(box.x - other.x) >= drawn.box_width
            apart_y = abs(box.y - other.y) >= drawn.box_height
            assert box is other or apart_x or apart_y
    for line in drawn.lines:
        # A Bézier curve lies within the hull of its four points.
        numbers = [float(text) for text in re.findall(r"-?[\d.]+", line.path)]
        assert all(0 <= x <= drawn.width for x in numbers[::2])
        assert all(0 <= y <= drawn.height for y in numbers[1::2])


def test_the_pipeline_fits_a_telephone_and_a_page():
    assert run_graph.draw(PIPELINE, upright=True).width <= 328
    assert run_graph.draw(PIPELINE).width <= 1144


def test_what_is_not_in_the_graph_is_left_out():
    drawn = run_graph.draw([Node("a", ("elsewhere",)), Node("b", ("a", "a"))])
    assert [(line.source, line.target) for line in drawn.lines] == [("a", "b")]
