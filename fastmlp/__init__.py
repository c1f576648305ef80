"""fastmlp: multilayer perceptrons on the CPU, trained from NumPy arrays by compiled kernels."""

from fastmlp.history import History
from fastmlp.model import Gradients, Model
from fastmlp.optimizers import SGD, Adam
from fastmlp.threads import get_num_threads, set_num_threads
from fastmlp.warmup import warmup

__version__ = "0.1.0"
__all__ = ["SGD", "Adam", "Gradients", "History", "Model", "get_num_threads", "set_num_threads", "warmup"]
