"""Fine-tuning whose steps are replays, on the stand-in GPU, learns what a CPU learns."""

import pytest

from tests.finetuning.fitted import (
    ROUNDING,
    assert_same_run,
    classify,
    instruct,
    prefer,
    replaying_gpu,
    run,
)

pytest.importorskip("triton")
pytest.importorskip("ml_dtypes")


@pytest.fixture
def recordings(monkeypatch):
    """On the stand-in GPU: the recordings that were made."""
    with replaying_gpu(monkeypatch) as made:
        yield made


WAYS = [
    (classify, {}),
    (classify, {"pooling": "last", "balance": True, "weight": 0.5}),
    (classify, {"which": "lora", "weight": 0.5, "dropout": 0.2}),
    (classify, {"which": "last-block", "tie_weights": False, "dropout": 0.2}),
    (classify, {"which": "head"}),
    (instruct, {"dropout": 0.2}),
    (instruct, {"packing": True}),
    (instruct, {"lora": ("attention.qkv", "head"), "tie_weights": False}),
    (prefer, {"dropout": 0.2}),
]


@pytest.mark.parametrize(
    ("kind", "options"), WAYS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_replayed_fine_tuning_equals_that_op_by_op(recordings, kind, options):
    plain = run(kind, "cpu", **options)
    assert not recordings
    replayed = run(kind, "cuda", **options)
    assert len(recordings) == 2, "one for each shape"
    assert_same_run(plain, replayed, ROUNDING["float32"])


@pytest.mark.parametrize("kind", [classify, instruct, prefer])
def test_in_float16_too(recordings, kind):
    plain = run(kind, "cuda", "float16", graph=False)
    assert not recordings
    replayed = run(kind, "cuda", "float16")
    assert recordings
    assert_same_run(plain, replayed, ROUNDING["float16"])
