"""A tiny tokenizer and GPT, and sentences to train on."""

import copy

import pytest

from tinygrad_llm.backend.random import Generator
from tinygrad_llm.data.templates import CHAT_SPECIAL_TOKENS
from tinygrad_llm.nn import GPT, GPTConfig
from tinygrad_llm.tokenizers import BPETokenizer

TEXT = (
    "Win a free prize now! Call this number to claim. Are you coming home for dinner tonight? "
    "I will be late, see you at the station. Urgent: your account won a cash award, text back. "
    "What is the plural of mouse? The plural of mouse is mice. Say hello to the man. Hello man. "
) * 3


@pytest.fixture(scope="session")
def tokenizer():
    return BPETokenizer.train([TEXT], 320, ("<|endoftext|>", *CHAT_SPECIAL_TOKENS))


@pytest.fixture(scope="session")
def _gpt(tokenizer):
    config = GPTConfig(tokenizer.vocab_size, 64, n_layer=2, n_head=2, n_embd=32)
    return GPT(config, Generator(5)).eval()


@pytest.fixture
def gpt(_gpt):
    """A fresh copy for each test; the same weights every time."""
    return copy.deepcopy(_gpt)
