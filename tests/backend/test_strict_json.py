"""JSON that two readers would understand in two ways, or that no reader gets through."""

import time

import pytest

from tinygrad_llm.backend import strict_json


def test_json_is_what_it_was():
    text = b'{"a": [1, {"b": null}], "c": {}}'
    assert strict_json.loads(text) == {"a": [1, {"b": None}], "c": {}}


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'])
def test_a_name_that_stands_twice(text):
    with pytest.raises(ValueError, match="the name 'a' stands twice in one object"):
        strict_json.loads(text)


def test_among_a_hundred_thousand_names_it_is_found_at_once():
    names = ", ".join(f'"{n}": 1' for n in range(100_000))
    start = time.process_time()
    with pytest.raises(ValueError, match="'0' stands twice"):
        strict_json.loads(f'{{{names}, "0": 1}}')
    assert time.process_time() - start < 5


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_without_end(text):
    with pytest.raises(ValueError, match="nested too deep"):
        strict_json.loads(text)
