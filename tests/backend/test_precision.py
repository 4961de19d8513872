"""The precision of products as a setting: what a type means on a device, and what is said."""

import threading
import warnings

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.backend import matrix_units, precision
from tinygrad_llm.errors import ConfigError, DeviceError


@pytest.mark.parametrize(
    ("dtype", "device", "weights", "products"),
    [
        ("bfloat16", "cpu", "float32", "medium"),
        ("float32", "cpu", "float32", "highest"),
        ("float16", "cpu", "float16", "highest"),
        ("float64", "cpu", "float64", "highest"),
        ("bfloat16", "cuda", "bfloat16", "highest"),
        ("bfloat16", "cuda:1", "bfloat16", "highest"),
        (None, "cpu", None, "highest"),
    ],
)
def test_what_a_type_means_on_a_device(dtype, device, weights, products):
    assert precision.weights_type(dtype, device) == weights
    with precision.computing_in(dtype, device):
        assert tg.get_float32_matmul_precision() == products
    assert tg.get_float32_matmul_precision() == "highest"


def test_an_unknown_device_is_refused():
    with pytest.raises(DeviceError, match='expected "cpu", "cuda"'):
        precision.computing_in("bfloat16", "gpu")


def test_the_setting_is_put_back_after_an_error():
    with pytest.raises(ZeroDivisionError), precision.computing_in("bfloat16", "cpu"):
        raise ZeroDivisionError
    assert tg.get_float32_matmul_precision() == "highest"


def test_a_scope_of_another_type_leaves_what_the_user_set():
    with tg.float32_matmul_precision("medium"), precision.computing_in("float32", "cpu"):
        assert tg.get_float32_matmul_precision() == "medium"


def test_other_names_are_refused():
    with pytest.raises(ConfigError, match="expected one of highest, high, medium, got 'bf16'"):
        tg.set_float32_matmul_precision("bf16")


def product():
    x, y = (np.random.default_rng(i).normal(size=(40, 40)).astype("f4") for i in (0, 1))
    return (tg.tensor(x) @ tg.tensor(y)).numpy()


def test_a_setting_without_effect_is_warned_of_once(packages_missing):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with tg.float32_matmul_precision("medium"), tg.float32_matmul_precision("medium"):
            rounded = product()
        tg.set_float32_matmul_precision("medium")
        tg.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(rounded, product())
    assert [warning.filename for warning in found] == [__file__]
    assert "has no effect here. Products are computed in float32: " in str(found[0].message)
    assert "needs the packages numkong and ml_dtypes" in str(found[0].message)


def test_who_was_told_in_a_sentence_is_not_warned(packages_missing):
    told = precision.how_computed("bfloat16", "cpu")
    assert told.startswith("bfloat16 has no effect on this CPU. Products are computed in float32:")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with precision.computing_in("bfloat16", "cpu"):
            pass


def test_the_sentence_names_the_instructions(monkeypatch):
    monkeypatch.setattr(matrix_units, "found", lambda: matrix_units.MatrixUnits("AMX", "", "AMX"))
    assert "products by AMX" in precision.how_computed("bfloat16", "cpu")
    assert precision.how_computed("bfloat16", "cuda") == ""
    assert precision.how_computed("float32", "cpu") == ""


@pytest.mark.parametrize(
    ("capabilities", "wanted", "instructions", "why_not"),
    [
        ({"sapphireamx", "genoa"}, "auto", "AMX", ""),
        ({"smebf16"}, "auto", "SME", ""),
        ({"genoa", "turin"}, "auto", None, "only generated tokens are faster"),
        ({"genoa", "turin"}, "on", "AVX512-BF16", ""),
        ({"genoa"}, "auto", None, "AVX512-BF16, whose products are slower"),
        ({"haswell"}, "auto", None, "no matrix units"),
        ({"haswell"}, "on", "plain instructions", ""),
        ({"sapphireamx"}, "off", None, "TINYGRAD_LLM_MATRIX_UNITS is off"),
        (None, "on", None, "numkong and ml_dtypes"),
    ],
)
def test_which_instructions_are_taken(monkeypatch, capabilities, wanted, instructions, why_not):
    monkeypatch.setattr(matrix_units, "_capabilities", lambda: capabilities)
    monkeypatch.setenv(matrix_units.VARIABLE, wanted)
    matrix_units._found.cache_clear()
    try:
        found = matrix_units.found()
    finally:
        matrix_units._found.cache_clear()
    assert (found.instructions or "").startswith(instructions or "")
    assert (found.instructions is None) is (instructions is None)
    assert why_not in found.why_not


def test_a_scope_holds_for_its_own_thread():
    seen = []
    with tg.float32_matmul_precision("medium"):
        other = threading.Thread(target=lambda: seen.append(tg.get_float32_matmul_precision()))
        other.start()
        other.join()
        assert tg.get_float32_matmul_precision() == "medium"
    assert seen == ["highest"]


def test_what_the_processor_has_is_listed_by_the_strongest_names(monkeypatch):
    monkeypatch.setattr(matrix_units, "_capabilities", lambda: {"turin", "genoa", "haswell"})
    assert matrix_units.capabilities() == ["AVX512-BF16 (vectors of 512 bits, Zen 5)"]
    monkeypatch.setattr(matrix_units, "_capabilities", lambda: {"haswell"})
    assert matrix_units.capabilities() == []
    monkeypatch.setattr(matrix_units, "_capabilities", lambda: None)
    assert matrix_units.capabilities() is None
