"""From settings to a trainer that is ready to go: the order in which a run is put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tinygrad_llm.backend.precision import weights_type
from tinygrad_llm.backend.random import manual_seed
from tinygrad_llm.data.loader import BatchLoader
from tinygrad_llm.data.sliding_window import TokenDataset
from tinygrad_llm.distributed.communicator import Communicator
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.generation.next_scores import context_of, vocab_size_of
from tinygrad_llm.nn import GPT, Module, load_model, save_model
from tinygrad_llm.nn.dropout import set_dropout
from tinygrad_llm.nn.registry import kind_of, new_model
from tinygrad_llm.nn.saved_model import check_saveable
from tinygrad_llm.optim import (
    AdamW,
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    Optimizer,
    Schedule,
    WarmupSchedule,
    decay_groups,
)
from tinygrad_llm.training.evaluate import Evaluator, SharedEvaluator, bytes_per_token
from tinygrad_llm.training.loop_settings import Loader, LoopSettings
from tinygrad_llm.training.progress import Save, TrainingState
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.report.recorder import Recorder
from tinygrad_llm.training.run.checkpoint import entries_of_a_state
from tinygrad_llm.training.run.folder import RunFolder
from tinygrad_llm.training.run.saved_start import start_of
from tinygrad_llm.training.run.text import TokenText, check_same_text
from tinygrad_llm.training.run.versions import versions
from tinygrad_llm.training.settings.config import TrainConfig
from tinygrad_llm.training.settings.flags import as_toml
from tinygrad_llm.training.steps.captured import CapturedStep, stepper_for
from tinygrad_llm.training.steps.eager import EagerStep
from tinygrad_llm.training.steps.precision import Precision, ScaledLoss
from tinygrad_llm.training.steps.prefetch import Prefetcher
from tinygrad_llm.training.steps.ranks import Ranks
from tinygrad_llm.training.steps.world import OneProcess
from tinygrad_llm.training.trainer import Trainer

# Settings that a model's configuration may have; the vocabulary is the tokenizer's.
SIZES_OF_A_MODEL = (
    "context_length",
    "n_layer",
    "n_head",
    "n_embd",
    "dropout",
    "qkv_bias",
    "tie_weights",
)


def make_model(config: TrainConfig, vocab_size: int, saved: Path | None = None) -> Module:
    """The model of a run: new, from ``init_from``, or from the checkpoint that is resumed.

    Raises:
        ConfigError: the model to start from does not fit the tokenizer or the context length, or
            is not registered.
        CheckpointError: it cannot be loaded.
    """
    manual_seed(config.seed)
    start = saved or (start_of(config.init_from) if config.init_from else None)
    if start is not None:
        model = _load(start, config, verify=saved is None)  # a checkpoint was, with its state
        _check_fit(model, config, vocab_size)
    else:
        sizes = {name: getattr(config, name) for name in SIZES_OF_A_MODEL}
        model = new_model(config.model, {**sizes, "vocab_size": vocab_size})
    model = model.to(config.device).to(weights_type(config.dtype, config.device))
    if config.recompute and not isinstance(model, GPT):
        raise ConfigError(
            f"recompute: {type(model).__name__} is no subclass of GPT, which computes its blocks "
            "again. Call tg.checkpoint in its forward instead, and leave --recompute out."
        )
    if isinstance(model, GPT):
        model.checkpoint_blocks = config.recompute
    return model


def _load(start: str | Path, config: TrainConfig, verify: bool) -> Module:
    model = load_model(start, device=config.device, verify=verify)
    set_dropout(model, config.dropout)
    return model


def _check_fit(model: Module, config: TrainConfig, vocab_size: int) -> None:
    kind = kind_of(model)
    if kind is None or kind.name != config.model:
        raise ConfigError(
            f"model: {config.model!r} was asked for, and the saved model is a "
            f"{kind.name if kind else type(model).__name__!r}. Leave --model out."
        )
    if vocab_size_of(model) != vocab_size:
        raise ConfigError(
            f"init_from {config.init_from!r}: the model has {vocab_size_of(model)} tokens, the "
            f"tokenizer {vocab_size}. Leave --tokenizer out: the model's own is used then."
        )
    if config.context_length > context_of(model):
        raise ConfigError(
            f"context_length: {config.context_length} is more than the {context_of(model)} of "
            f"the model {config.init_from!r}. Lower it."
        )


def make_optimizer(config: TrainConfig, model: Module) -> Optimizer:
    """AdamW; matrices decay, biases and norms do not."""
    return AdamW(
        decay_groups(model, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
    )


def make_schedule(config: TrainConfig, optimizer: Optimizer) -> Schedule:
    """The learning-rate schedule; the warm-up takes at most half of a short run."""
    warmup = min(config.warmup, config.steps // 2)
    if config.schedule == "constant":
        return WarmupSchedule(optimizer, warmup) if warmup else ConstantSchedule(optimizer)
    kind = CosineSchedule if config.schedule == "cosine" else LinearSchedule
    return kind(optimizer, config.steps, warmup, config.min_learning_rate)


def make_loader(
    config: TrainConfig, text: TokenText, world: Communicator | None = None
) -> BatchLoader:
    """Batches of the training part, in an order that the seed decides.

    Raises:
        ConfigError: the batch cannot be shared out evenly among the processes.
    """
    dataset = TokenDataset(text.train, config.context_length, text.stride)
    rank, size = (0, 1) if world is None else (world.rank, world.size)
    if config.batch_size % size:
        raise ConfigError(
            f"batch_size: {config.batch_size} windows cannot be shared out evenly among {size} "
            f"processes. Choose a multiple of {size}."
        )
    return BatchLoader(
        dataset,
        config.batch_size // size,
        config.seed,
        random_crops=config.order == "crops",
        rank=rank,
        world_size=size,
    )


def make_evaluator(
    config: TrainConfig,
    text: TokenText,
    everything: bool = False,
    world: Communicator | None = None,
) -> Evaluator:
    """The validation part, or a fixed selection of it; several processes share it out."""
    evaluator = Evaluator(
        text.validation,
        config.context_length,
        config.batch_size,
        0 if everything else config.eval_tokens,
        bytes_per_token(text.tokenizer),
    )
    if world is None or world.size == 1:
        return evaluator
    return SharedEvaluator(evaluator, world)


def loop_settings(config: TrainConfig) -> LoopSettings:
    """Those of the settings that the loop needs to know; they have the same names."""
    return LoopSettings(**{item.name: getattr(config, item.name) for item in fields(LoopSettings)})


def make_save(
    config: TrainConfig, text: TokenText, model: Module, run: RunFolder, processes: int = 1
) -> Save:
    """What writes checkpoints: the model with its tokenizer, the state, settings and versions."""

    check_saveable(model)  # at the beginning, not when the first checkpoint is due

    def write_model(folder: Path) -> None:
        save_model(model, folder, text.tokenizer)

    def save(step: int, state: TrainingState, best_step: int | None) -> Path:
        known = {"text": text.fingerprint, "versions": versions(processes)}
        return run.save(
            step, write_model, {**state, "config": config.to_dict(), **known}, best_step
        )

    return save


def make_trainer(
    config: TrainConfig,
    text: TokenText,
    model: Module,
    run: RunFolder | None = None,
    resumed: TrainingState | None = None,
    callbacks: Sequence[Callback] = (),
    trainer_class: Callable[..., Trainer] = Trainer,
    world: Communicator | None = None,
) -> Trainer:
    """Everything together.

    Args:
        config: the settings.
        text: tokenized.
        model: from `make_model`.
        run: where checkpoints and logs go; None for nowhere. It is begun when all else fits.
        resumed: the state of a checkpoint to go on from.
        callbacks: are told what happens.
        trainer_class: a subclass of `Trainer` with other methods. Python computes its steps, as
            a graph would repeat what they did in the first one.
        world: the processes that train together; None for this one.

    Raises:
        CheckpointError: the checkpoint is of another text or model.
    """
    optimizer = make_optimizer(config, model)
    processes = 1 if world is None else world.size
    stepper = make_stepper(config) if trainer_class is Trainer else EagerStep()
    loader: Loader = make_loader(config, text, world)
    if isinstance(stepper, CapturedStep):
        loader = Prefetcher(loader, config.accumulate)
    trainer = trainer_class(
        model,
        optimizer,
        loader,
        loop_settings(config),
        make_schedule(config, optimizer),
        evaluate=make_evaluator(config, text, world=world) if len(text.validation) else None,
        save=None if run is None else make_save(config, text, model, run, processes),
        recorder=Recorder(None if run is None else run.path, _utilization(config, model)),
        callbacks=callbacks,
        stepper=stepper,
        precision=make_precision(config),
        world=make_world(config, world),
    )
    if resumed is not None:
        with entries_of_a_state():
            check_same_text(resumed["text"], text)
            place = _place(resumed, config, loader)
            trainer.set_state({**resumed, "loader": place})
    if run is not None:
        run.begin(as_toml(config))
    if resumed is None:
        trainer.recorder.cut_after(-1)
    return trainer


def _place(resumed: TrainingState, config: TrainConfig, loader: Loader) -> Mapping[str, Any]:
    """Where in the text a resumed run goes on.

    A batch size may turn a short text into a ring, or a ring into a text (`run.text`). It then has
    other windows, which begin at the next epoch.
    """
    saved: Mapping[str, Any] = resumed["loader"]
    windows = loader.state()["windows"]
    if resumed["config"]["batch_size"] == config.batch_size or saved["windows"] == windows:
        return saved
    return {**saved, "windows": windows, "epoch": saved["epoch"] + 1, "samples": 0}


def make_stepper(config: TrainConfig) -> EagerStep:
    """A CUDA graph on a GPU, where the kernels take the type and no callback reads activations."""
    graph = config.graph and not config.histograms_every
    return stepper_for(config.device, config.dtype, graph)


def make_precision(config: TrainConfig) -> Precision:
    """That of ``dtype``; float16 wants a scaled loss, for its range is small."""
    if config.dtype == "float16":
        return ScaledLoss()
    return Precision(config.dtype, config.device)


def make_world(config: TrainConfig, world: Communicator | None = None) -> OneProcess:
    """The processes that train together, or this one."""
    if world is None or world.size == 1:
        return OneProcess()
    return Ranks(world, config.shard_optimizer)


def _utilization(config: TrainConfig, model: Module) -> Callable[[float], float | None] | None:
    """From tokens/s to the used part of a GPU's peak; None on a CPU, and of another model."""
    if not (config.device.startswith("cuda") and isinstance(model, GPT)):
        return None
    from tinygrad_llm.training.report import utilization as chips

    peak = chips.peak_flops(chips.gpu_name()) if config.dtype in ("bfloat16", "float16") else None
    return lambda speed: chips.utilization(speed, model.config, peak)
