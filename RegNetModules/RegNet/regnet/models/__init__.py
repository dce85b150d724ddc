"""The registration models by name. Importable without torch: panels and ``--help`` read only what is said here."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ..errors import ModelError
from .base import ModelInfo, ParametersBase

MODEL_NAMES: tuple[str, ...] = ("avsm", "masr", "deformgan", "ddim", "bsafusion")


def get_model(name: str) -> ModuleType:
    """The model's module: ``info``, ``Parameters``, ``dimension_of(config)``, ``improve_affine(pair, parameters, state,
    config, events)`` and, unless its transform is linear, ``predict(pair, parameters, state, config, events, final)``
    and ``refine(pair, displacement, parameters, state, config, events, how)``, where ``how`` is what ``--refine`` says
    but ``off``. One whose ``info.translates`` also has ``synthetic(pair, displacement, parameters, state, config,
    events)``, one whose ``info.fuses`` ``fuse(fixed, moving, transform, parameters, colours, ...)``.

    Raises:
        ModelError: there is no such model.
    """
    if name not in MODEL_NAMES:
        raise ModelError(f"There is no model named {name!r}; choose from {', '.join(MODEL_NAMES)}.")
    return import_module(f".{name}", __name__)


def get_info(name: str) -> ModelInfo:
    return get_model(name).info


def get_parameters(name: str) -> type[ParametersBase]:
    return get_model(name).Parameters


def get_recipe(name: str) -> type:
    """How the model is trained: its subclass of :class:`regnet.training.recipe.Recipe`.

    Raises:
        ModelError: there is no such model, or it cannot be trained.
    """
    get_model(name)
    try:
        return import_module(f".{name}_training", __name__).Recipe
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}_training":
            raise
        raise ModelError(f"The model {name!r} has nothing to train.") from None
