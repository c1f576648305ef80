"""fastmlp: multilayer perceptrons on the CPU, trained from NumPy arrays by compiled kernels."""

from fastmlp import metrics, schedules
from fastmlp.activations import CustomActivation
from fastmlp.callbacks import Callback, EarlyStopping
from fastmlp.epochs import DivergenceError
from fastmlp.history import History
from fastmlp.lbfgs import LBFGS
from fastmlp.losses import CustomLoss
from fastmlp.model import Gradients, Model
from fastmlp.optimizers import SGD, Adagrad, Adam, Adamax, AdamW, Lion, Nadam, RMSprop
from fastmlp.threads import get_num_threads, set_num_threads
from fastmlp.warmup import warmup

__version__ = "0.1.0"
__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Callback",
    "CustomActivation",
    "CustomLoss",
    "DivergenceError",
    "EarlyStopping",
    "Gradients",
    "History",
    "Lion",
    "Model",
    "Nadam",
    "RMSprop",
    "get_num_threads",
    "metrics",
    "schedules",
    "set_num_threads",
    "warmup",
]
