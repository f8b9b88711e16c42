from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.duplicates import Candidate, decide


def candidate(name, label, split="train"):
    return Candidate(b"p", name, "abc"[label], split, "", f"digest of {name}", "spool", 0, 1)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["train", "eval", "test"])),
        min_size=1,
        max_size=6,
    ),
    st.randoms(),
)
def test_every_image_is_accounted_for_whatever_the_order(found, random):
    candidates = [candidate(str(n), label, split) for n, (label, split) in enumerate(found)]
    decision = decide(candidates)
    names = [c.name for c in decision.kept]
    names += [entry["name"] for entry in (*decision.dropped, *decision.conflicting)]
    assert sorted(names) == [c.name for c in candidates]

    labels = {label for label, _ in found}
    assert len(decision.kept) == (1 if len(labels) == 1 else 0)
    assert bool(decision.conflicting) == (len(labels) > 1)
    random.shuffle(candidates)
    assert decide(candidates) == decision


def test_the_copy_that_measures_is_kept():
    copies = [candidate("a", 0, "train"), candidate("b", 0, "eval"), candidate("c", 0, "test")]
    assert decide(copies).kept == (copies[2],)
    assert decide(copies[:2]).kept == (copies[1],)
    assert [entry["kept"] for entry in decide(copies).dropped] == ["c", "c"]
