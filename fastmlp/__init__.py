"""fastmlp: multilayer perceptrons on the CPU, trained from NumPy arrays by compiled kernels."""

from fastmlp.activations import CustomActivation
from fastmlp.history import History
from fastmlp.losses import CustomLoss
from fastmlp.model import Gradients, Model
from fastmlp.optimizers import SGD, Adagrad, Adam, Adamax, AdamW, Lion, Nadam, RMSprop
from fastmlp.threads import get_num_threads, set_num_threads
from fastmlp.warmup import warmup

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "CustomActivation",
    "CustomLoss",
    "Gradients",
    "History",
    "Lion",
    "Model",
    "Nadam",
    "RMSprop",
    "get_num_threads",
    "set_num_threads",
    "warmup",
]
