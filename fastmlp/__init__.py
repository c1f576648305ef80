"""fastmlp: multilayer perceptrons on the CPU, trained from NumPy arrays by compiled kernels."""

from typing import TYPE_CHECKING, Any

from fastmlp import activations, kernels, losses, metrics, schedules
from fastmlp.activations import CustomActivation
from fastmlp.callbacks import Callback, EarlyStopping
from fastmlp.compiled import CompiledModel
from fastmlp.engine.threads import get_num_threads, set_num_threads
from fastmlp.files.load import load
from fastmlp.history import History
from fastmlp.interchange.c import to_c
from fastmlp.interchange.keras import from_keras
from fastmlp.interchange.numpy import to_numpy
from fastmlp.interchange.onnx.read import from_onnx
from fastmlp.interchange.onnx.write import to_onnx
from fastmlp.interchange.sklearn import from_sklearn, to_sklearn
from fastmlp.interchange.torch import from_torch, to_torch
from fastmlp.kernels.machine.cache import CacheWarning
from fastmlp.lbfgs import LBFGS
from fastmlp.losses import CustomLoss, RowLoss
from fastmlp.model import Gradients, LayerOutput, Model
from fastmlp.optimizers import SGD, Adagrad, Adam, Adamax, AdamW, Lion, Nadam, RAdam, RMSprop
from fastmlp.training.epochs import DivergenceError
from fastmlp.version import __version__ as __version__
from fastmlp.warmup import warmup

if TYPE_CHECKING:
    from fastmlp.sklearn.estimators import MLPClassifier as MLPClassifier
    from fastmlp.sklearn.estimators import MLPRegressor as MLPRegressor

__docformat__ = "numpy"
__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "CacheWarning",
    "Callback",
    "CompiledModel",
    "CustomActivation",
    "CustomLoss",
    "DivergenceError",
    "EarlyStopping",
    "Gradients",
    "History",
    "LayerOutput",
    "Lion",
    "Model",
    "Nadam",
    "RAdam",
    "RMSprop",
    "RowLoss",
    "activations",
    "from_keras",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "get_num_threads",
    "kernels",
    "load",
    "losses",
    "metrics",
    "schedules",
    "set_num_threads",
    "to_c",
    "to_numpy",
    "to_onnx",
    "to_sklearn",
    "to_torch",
    "warmup",
]
ESTIMATORS = ("MLPClassifier", "MLPRegressor")  # not in __all__: a star import does without scikit-learn


def __getattr__(name: str) -> Any:
    """The estimators: they need scikit-learn, whose import takes half a second."""
    if name not in ESTIMATORS:
        raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")
    try:
        from fastmlp.sklearn import estimators
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("sklearn", "scipy"):
            raise
        raise ImportError(f'{name} needs scikit-learn: pip install "fastmlp[sklearn]"') from error
    return getattr(estimators, name)


def __dir__() -> list[str]:
    return sorted([*__all__, *ESTIMATORS, "__version__"])
