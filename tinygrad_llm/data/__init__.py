"""Data: texts to pretrain on, and labelled sets to fine-tune on.

The modules:

    corpora          documents by name, from files and folders
    sliding_window   documents -> tokens -> windows of inputs and targets
    loader           windows -> batches, in an order that can be saved and continued
    tokenizing       files -> token shards, on all cores, for text larger than memory
    shards           token shards, read through a memory map
    spam             short messages labelled spam or not
    instructions     tasks with answers
    translation      sentences and their translations into a made-up language
    templates        conversations as text, with the answers marked token by token
"""

from __future__ import annotations

from tinygrad_llm.data import corpora, instructions, spam, templates
from tinygrad_llm.data.documents import Document
from tinygrad_llm.data.loader import BatchLoader
from tinygrad_llm.data.shards import TokenShards
from tinygrad_llm.data.sliding_window import TokenDataset, encode_documents, split_ids
from tinygrad_llm.data.tokenizing import tokenize_files

__all__ = [
    "BatchLoader",
    "Document",
    "TokenDataset",
    "TokenShards",
    "corpora",
    "encode_documents",
    "instructions",
    "spam",
    "split_ids",
    "templates",
    "tokenize_files",
]
