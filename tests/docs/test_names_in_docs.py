"""What README, docs/, docstrings and comments name exists: no name outlives what it meant."""

import named
import pytest

FOREIGN = frozenset(
    {
        # A reader's own files, written along the guides.
        *("rms_norm.py", "test_rms_norm.py", "resources.py", "script.py"),
        *("my_models", "my_models.py", "folder/my_models.py"),
        # Pages of the site that are made of the chapters' scripts.
        "chapters/ch01_ideas.md",
        # Other projects' files and names.
        *("src/model.py", "models/gpt2/modeling_gpt2.py", "doc/table_format.md", "encoder.py"),
        *("tuned/", "Python.h", "par_nosync", "sched_yield"),
        *("openblas_set_num_threads_local", "cblas_sgemm_batch_strided", "cblas_sgemmtr"),
        # What is said to be missing.
        "tg.nn.RMSNorm",
        # Ops that a reader registers.
        *("tg.functional.softplus", "tg.functional.rms_norm"),
    }
)


@pytest.mark.parametrize("page", named.pages())
def test_names_on_a_page_exist(page):
    assert not named.stale(page, FOREIGN)


def test_names_in_docstrings_and_comments_exist():
    assert not [line for name in named.sources() for line in named.stale(name, FOREIGN)]


def test_names_that_are_there_are_found():
    assert named.dotted("tg.nn.GPTConfig.vocab_size")
    assert named.dotted("tinygrad_llm.training.trainer")
    assert named.is_file("ops/gelu.py")
    assert named.is_file("test_*.py")
    assert named.is_folder("training/report/")
    assert all(map(named.is_known, ("Tensor.grad", "ValueError", "layer_norm_forward", "a word")))


def test_names_that_are_gone_are_noticed():
    assert not named.dotted("tg.nn.GPTConfig.vocabulary_size")
    assert not named.dotted("tinygrad_llm.training.trainers")
    assert not named.is_file("ops/gel.py")
    assert not named.is_file("op/gelu.py")
    assert not named.is_folder("training/reports/")
    gone = ("Tensor.gradd", "FlatBufer", "FlatBuffer.no_such_name", "layer_norms_forward")
    assert not any(map(named.is_known, gone))


def test_every_foreign_name_is_still_spoken_of():
    text = "\n".join(
        line for name in [*named.pages(), *named.sources()] for _, line in named.texts(name)
    )
    assert not [name for name in FOREIGN if name not in text]
