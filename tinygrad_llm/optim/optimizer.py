"""What all optimizers share: parameter groups, names, and the state for a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any, TypeGuard

import numpy as np

from tinygrad_llm.backend import Array, array_module
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.optim.flat import FlatBuffer, Run, Slot
from tinygrad_llm.optim.groups import Group, Parameters, Settings, make_groups
from tinygrad_llm.optim.layout import pack


class Optimizer:
    """Base of SGD, Adam and AdamW.

    Attributes:
        param_groups: one dict per group with its settings ("lr", "weight_decay", ...), its
            parameters ("params") and their names ("names"). Settings may be changed at any time.
        buffers: the flat arrays that hold the parameters, see `flat`.

    A copy or a pickle of ``(model, optimizer)`` is a pair that goes on where this one stands.

    Frozen parameters are left out; one of them that is learned later is refused. A parameter
    without a gradient is skipped in a step: no decay, no change of its moments, as in PyTorch.
    """

    moment_names: tuple[str, ...] = ()

    def __init__(self, parameters: Parameters, defaults: Mapping[str, object]) -> None:
        owner = type(self).__name__
        self.param_groups, self._frozen = make_groups(owner, parameters, defaults)
        for group in self.param_groups:
            self.check_settings(group)
        self._lay_out()

    def _lay_out(self) -> None:
        """Move the parameters into flat arrays, with moments of zeros."""
        self.buffers: list[FlatBuffer] = pack(
            [
                (name, parameter, number)
                for number, group in enumerate(self.param_groups)
                for name, parameter in zip(group["names"], group["params"], strict=True)
            ]
        )
        for buffer in self.buffers:
            buffer.add_moments(self.moment_names)

    def check_settings(self, group: Settings) -> None:
        """Raise a ConfigError unless the group's settings make sense."""
        for name in ("lr", "weight_decay"):
            fits = is_number(group[name]) and group[name] >= 0
            require(self, name, group[name], fits, "a number of at least 0")

    def update(self, buffer: FlatBuffer, run: Run, group: Settings) -> None:
        """Update one run in place and round its master weights; overridden by each optimizer."""
        raise ConfigError(f"{type(self).__name__}: an optimizer must define update().")

    def add_param_group(self, group: Mapping[str, object]) -> None:
        """Left out: the flat arrays are laid out once.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{type(self).__name__}.add_param_group is left out. Make the optimizer with all its "
            'groups: [{"params": [...], "lr": ...}, {"params": [...]}]; a rate of 0 holds a group.'
        )

    @property
    def lr(self) -> float:
        """Learning rate of the first group."""
        return self.param_groups[0]["lr"]

    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient, in place.

        Args:
            closure: left out; PyTorch's optimizers would call it for the loss.

        Raises:
            ConfigError: a closure is given, or a parameter that was frozen when the optimizer was
                made has a gradient.
            GradientError: a gradient was assigned that is no array of its parameter's shape.
        """
        if closure is not None:
            raise ConfigError(
                f"{type(self).__name__}.step takes no closure: none of the optimizers computes the "
                "loss again. Write loss = closure(); optimizer.step()."
            )
        for name, parameter in self._frozen:
            if parameter.grad is not None and parameter.requires_grad:
                raise ConfigError(
                    f"{type(self).__name__}: parameter {name!r} was frozen when the optimizer was "
                    "made, so it has no place here and would not be updated. Make the optimizer "
                    "after requires_grad is set, or give it only what it shall update."
                )
        for buffer in self.buffers:
            buffer.gather()
            for run in buffer.runs():
                self.update(buffer, run, self.param_groups[run.group])
            buffer.finish_step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients.

        Args:
            set_to_none: False fills them with 0 instead: a step then moves and decays every
                parameter that ever had a gradient.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                else:
                    parameter.zero_grad(set_to_none=False)

    def gradients(self) -> list[Array]:
        """All gradients as a few long arrays, for clipping and for sums over processes."""
        return [array for buffer in self.buffers for array in buffer.gradients()]

    # ---- copying and pickling: a copy's flat arrays hold the copied parameters ---------------

    def __getstate__(self) -> dict[str, object]:
        for buffer in self.buffers:
            if buffer.has_master:
                buffer.gather()  # edited weights are newer than their master weights
        attributes = {name: value for name, value in vars(self).items() if name != "buffers"}
        return {"attributes": attributes, "state": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state["attributes"])
        self._lay_out()
        self.load_state_dict(state["state"])

    # ---- saving and loading ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on from here.

        Returns:
            {"settings": plain values for JSON: type, groups, steps per parameter,
             "arrays": {"first_moment.NAME": array, ...}}. The arrays share the optimizer's
            memory, and go by the parameters' names, whatever their order.
        """
        groups = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.param_groups
        ]
        steps = {slot.name: slot.steps for slot in self._slots()}
        settings = {"type": type(self).__name__, "groups": groups, "steps": steps}
        return {"settings": settings, "arrays": self._arrays()}

    def _slots(self) -> Iterator[Slot]:
        return (slot for buffer in self.buffers for slot in buffer.slots)

    def _arrays(self) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for buffer in self.buffers:
            kinds = dict(buffer.moments)
            if buffer.has_master:
                kinds["master"] = buffer.master
            for kind, array in kinds.items():
                for slot in buffer.slots:
                    found[f"{kind}.{slot.name}"] = buffer.view(array, slot)
        return found

    def _targets(self, given: Mapping[str, object]) -> dict[str, Array]:
        """Where the arrays of a state go.

        The parameters may have had another type when it was saved. Master weights go to those that
        have none themselves, and are not expected in the state of parameters that had none.
        """
        own = self._arrays()
        for buffer in self.buffers:
            for slot in buffer.slots:
                name = f"master.{slot.name}"
                if name in given:
                    own[name] = buffer.view(buffer.master, slot)
                else:
                    own.pop(name, None)
        return own

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; on any error nothing is changed.

        The parameters may have another type than when the state was saved. Float32 values of
        half-precision parameters (master weights) become those of float32 ones; where the state has
        none, they begin at the parameters' own values.

        Raises:
            CheckpointError: made by another optimizer or for other parameters; lists them.
        """
        owner = type(self).__name__
        settings, arrays = _split_state(owner, state_dict)
        if settings.get("type") != owner:
            raise CheckpointError(
                f"{owner}.load_state_dict: this state is of {settings.get('type')!r}. Make the "
                "optimizer with which the checkpoint was written."
            )
        own = self._targets(arrays)
        _check_names(owner, own, arrays)
        steps = {slot.name: settings["steps"].get(slot.name) for slot in self._slots()}
        _check_steps(owner, steps)
        groups = _match_groups(owner, self.param_groups, settings["groups"])
        for group in groups:
            self.check_settings(group)
        for buffer in self.buffers:
            buffer.gather()  # master weights that the state has not are those of the weights here
        for name, target in own.items():
            target[...] = array_module(target).asarray(arrays[name])
        for group, values in zip(self.param_groups, groups, strict=True):
            group.update(values)
        for slot in self._slots():
            slot.steps = steps[slot.name]
        for buffer in self.buffers:
            buffer.round_master(0, buffer.data.size)
            buffer.note_write()


def is_number(value: object) -> TypeGuard[float]:
    """True for Python's and NumPy's real numbers; a setting is no text, None, array or Tensor."""
    return isinstance(value, Real)


def require(owner: object, name: str, value: object, fits: bool, expected: str) -> None:
    """Raise a ConfigError about a setting unless ``fits``."""
    if not fits:
        raise ConfigError(f"{type(owner).__name__}: {name} must be {expected}, got {value!r}.")


def _split_state(owner: str, state_dict: object) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
    """(settings, arrays) of a state, if it has the form of one."""
    given = state_dict if isinstance(state_dict, Mapping) else {}
    settings, arrays = given.get("settings"), given.get("arrays")
    if not isinstance(arrays, Mapping) or not isinstance(settings, Mapping):
        settings, arrays = {}, {}
    groups, steps = settings.get("groups"), settings.get("steps")
    if not isinstance(groups, list) or not isinstance(steps, Mapping):
        raise CheckpointError(
            f"{owner}.load_state_dict: expected what state_dict() returned: 'settings' (with "
            "'type', 'groups', 'steps') and 'arrays'."
        )
    return settings, arrays


def _check_names(owner: str, own: Mapping[str, Array], given: Mapping[str, Array]) -> None:
    problems = [f"missing: {name}" for name in own if name not in given]
    problems += [f"unexpected: {name}" for name in given if name not in own]
    problems += [
        f"{name}: expected shape {array.shape}, got {np.shape(given[name])}"
        for name, array in own.items()
        if name in given and np.shape(given[name]) != array.shape
    ]
    if problems:
        more = [f"and {len(problems) - 12} more"] if len(problems) > 12 else []
        raise CheckpointError(
            f"{owner}.load_state_dict: the state is of other parameters; nothing was loaded.",
            *(f"  {line}" for line in [*problems[:12], *more]),
        )


def _check_steps(owner: str, steps: Mapping[str, object]) -> None:
    wrong = [name for name, n in steps.items() if not isinstance(n, int) or n < 0]
    if wrong:
        raise CheckpointError(
            f"{owner}.load_state_dict: no valid number of steps for {', '.join(wrong[:5])}."
        )


def _match_groups(owner: str, own: list[Group], given: list[Mapping[str, Any]]) -> list[Any]:
    """The saved settings for each of our groups: those of the group with the same names."""
    by_names = {frozenset(group.get("names", ())): group for group in given}
    matched = []
    for group in own:
        found = by_names.get(frozenset(group["names"]))
        if found is None:
            raise CheckpointError(
                f"{owner}.load_state_dict: the parameters were grouped differently when the "
                "state was saved. Make the optimizer with the same groups."
            )
        keys = [key for key in group if key not in ("params", "names")]
        missing = [key for key in keys if key not in found]
        if missing:
            raise CheckpointError(f"{owner}.load_state_dict: a group lacks {', '.join(missing)}.")
        matched.append({key: found[key] for key in keys})
    return matched
