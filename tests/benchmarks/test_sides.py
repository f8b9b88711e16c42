"""What the sides of the pipeline's benchmarks do beside calling it."""

import os
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from benchmarks import photographs, stochastic_depth
from benchmarks.sides import main_job, tuner_workers


def test_photographs_differ_and_are_the_same_each_time(tmp_path):
    contents = []
    for folder in ("one", "two"):
        photographs.make(tmp_path / folder, 12, 384, 512)
        paths = sorted((tmp_path / folder).rglob("*.jpg"))
        contents.append([path.read_bytes() for path in paths])
        with Image.open(paths[0]) as image:
            assert image.size == (512, 384)
    assert contents[0] == contents[1]
    assert len({sha256(content).digest() for content in contents[0]}) == 12
    # As much detail as TrashNet's photographs of this size have on average, 57 kB.
    assert 50_000 < np.mean([len(content) for content in contents[0]]) < 65_000


@pytest.mark.parametrize("depth", [8, 20, 110])
def test_the_expected_share_of_dropped_blocks_is_that_of_the_linear_decay(depth):
    """Huang et al. (2016), section 4: block l of L is dropped with probability l/L · (1 - p_L)."""
    blocks = (depth - 2) // 2
    each = [0.5 * number / blocks for number in range(1, blocks + 1)]
    assert 0.5 * stochastic_depth.expected_drop(depth) == pytest.approx(np.mean(each))


class TestSearch:
    def search(self, folder, scores, code=0):
        """Returns a side whose search says what it is told to."""
        side = tuner_workers.Search(folder, workers=1, trials=2, epochs=1)
        said = f"""echo 'loading'; echo '{{"seconds": 1.5, "scores": {{"1": {scores}}}}}'"""
        side._command = ["sh", "-c", f"{said}; echo 'no space' >&2; exit {code}"]
        return side

    def test_the_seconds_of_tuner_count_alone(self, tmp_path):
        turn = self.search(tmp_path, 0.5).run()
        assert (turn.items, turn.wall, turn.cpu) == (2, 1.5, None)

    def test_searches_must_find_the_same(self, tmp_path):
        self.search(tmp_path, 0.5).run()
        self.search(tmp_path, 0.5).run()
        with pytest.raises(RuntimeError, match=r"different scores: .*0\.5.* and .*0\.6"):
            self.search(tmp_path, 0.6).run()

    def test_a_search_that_fails_says_why(self, tmp_path):
        with pytest.raises(RuntimeError, match="exit code 3: no space"):
            self.search(tmp_path, 0.5, code=3).run()

    def test_each_worker_needs_a_core(self, tmp_path):
        many = len(os.sched_getaffinity(0)) + 1
        with pytest.raises(RuntimeError, match=f"{many} workers on a core each need {many} cores"):
            tuner_workers.Search(tmp_path, workers=many, trials=1, epochs=1)


class TestMainJob:
    def test_the_second_run_is_where_a_first_one_is_complete(self, tmp_path, monkeypatch):
        places = []
        monkeypatch.setattr(main_job, "_run", lambda place, more: places.append(place))
        main_job.First(tmp_path, []).run()
        (tmp_path / "run-killed").mkdir()
        main_job.Second(tmp_path, []).run()
        assert places[0] == places[1]

    def test_without_a_first_run_the_second_does_it_before_it_counts(self, tmp_path, monkeypatch):
        places = []
        monkeypatch.setattr(main_job, "_run", lambda place, more: places.append(place))
        side = main_job.Second(tmp_path, [])
        assert len(places) == 1
        side.run()
        assert places == [places[0]] * 2

    def test_a_run_that_fails_says_why(self, tmp_path):
        with pytest.raises(RuntimeError, match=r"exit code 2: .*--nothing"):
            main_job.First(tmp_path, ["--nothing"]).run()
        assert not list(tmp_path.glob("*/complete"))
