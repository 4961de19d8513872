"""Fine-tuning: a pretrained GPT becomes a classifier or an assistant.

    base_model        a model to start from: opened, or pretrained on the spot
    loop, collate     the training loop over small sets; padding, buckets, packing
    checkpoints       what a run saves, and goes on with; history, tuning_folder, progress
    classification    a head in place of the output layer; classifier_folder saves it
    instruction       loss on the answers only; responses writes and scores answers; judge
    preference        DPO against a frozen reference; constructed makes a set with known answers
    conversation      history, streaming, a full context
    adapter           LoRA matrices in a file of their own
metrics, text_metrics, baselines, plots, labelled_texts
"""

from tinygrad_llm.finetuning.adapter import load_adapter, save_adapter
from tinygrad_llm.finetuning.base_model import BaseModel, open_base, pretrain
from tinygrad_llm.finetuning.classification import TextClassifier, choose_trainable, fit_classifier
from tinygrad_llm.finetuning.classifier_folder import Classifier
from tinygrad_llm.finetuning.conversation import Conversation, load_assistant, save_assistant
from tinygrad_llm.finetuning.history import History
from tinygrad_llm.finetuning.instruction import encode_instructions, fit_instructions
from tinygrad_llm.finetuning.loop import FitSettings, fit
from tinygrad_llm.finetuning.preference import Preference, dpo_loss, fit_preferences

__all__ = [
    "BaseModel",
    "Classifier",
    "Conversation",
    "FitSettings",
    "History",
    "Preference",
    "TextClassifier",
    "choose_trainable",
    "dpo_loss",
    "encode_instructions",
    "fit",
    "fit_classifier",
    "fit_instructions",
    "fit_preferences",
    "load_adapter",
    "load_assistant",
    "open_base",
    "pretrain",
    "save_adapter",
    "save_assistant",
]
