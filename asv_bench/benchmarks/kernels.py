"""The public kernels of a dense layer: the time of one call from compiled code."""

import math
from functools import cache
from types import SimpleNamespace

import numpy as np
from asv_runner.benchmarks.mark import skip_for_params
from share_of_peak import forward

from benchmarks.timed import Timed
from fastmlp import kernels
from fastmlp.kernels.machine.jit import entry

ACTIVATIONS = ["identity", "relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "sigmoid", "tanh", "softmax"]
WORK = 1e8  # multiply-adds in a compiled loop of calls, and as much for a call's own overhead: a few milliseconds
CALL = 1e4
PAGE, LINE = 4096, 64  # bytes; numbers, of whole cache lines


@entry
def backward_weights(x: np.ndarray, d: np.ndarray, dw: np.ndarray, count: int) -> None:
    """`count` calls."""
    for _ in range(count):
        kernels.dense_backward_weights(x, d, dw)


@entry
def backward_biases(d: np.ndarray, db: np.ndarray, count: int) -> None:
    """`count` calls."""
    for _ in range(count):
        kernels.dense_backward_biases(d, db)


@entry
def backward_inputs(
    d: np.ndarray, w: np.ndarray, activation: int, a: np.ndarray, scratch: np.ndarray, dx: np.ndarray, count: int
) -> None:
    """`count` calls."""
    for _ in range(count):
        kernels.dense_backward_inputs(d, w, activation, a, scratch, dx)


@cache
def layer(shape: tuple[int, int, int], dtype: str) -> SimpleNamespace:
    """Its arrays, in one block from a page's start on, each from a cache line.

    Caches and the order of loads and stores go by an address's place in its page, which malloc would draw anew in each process.
    """
    rows, inputs, outputs = shape
    rng = np.random.default_rng(0)
    shapes = {
        "x": (rows, inputs),
        "w": (inputs, outputs),
        "b": (outputs,),
        "z": (rows, outputs),
        "out": (rows, outputs),
        "d": (rows, outputs),
        "dw": (inputs, outputs),
        "db": (outputs,),
        "scratch": ((outputs + 15) * inputs,),
        "dx": (rows, inputs),
    }
    lengths = [-(-math.prod(shape) // LINE) * LINE for shape in shapes.values()]
    block = np.empty(PAGE + sum(lengths), dtype)
    parts = np.split(block[-block.ctypes.data % PAGE // block.itemsize :], np.cumsum(lengths))
    arrays = {
        name: part[: math.prod(shapes[name])].reshape(shapes[name]) for name, part in zip(shapes, parts[:-1], strict=True)
    }
    for array in arrays.values():
        array[...] = rng.standard_normal(array.shape) / np.sqrt(inputs)
    return SimpleNamespace(
        **arrays,
        products=int(WORK / (rows * inputs * outputs + CALL)),
        sums=int(WORK / (rows * outputs + CALL)),
    )


class Layer(Timed):
    """Each kernel, with relu: rows, inputs and outputs of the layer."""

    params = ([(32, 8, 16), (64, 64, 64), (256, 256, 256), (128, 784, 256)], ["float32", "float64"])
    param_names = ("shape", "dtype")

    def setup(self, shape: tuple[int, int, int], dtype: str) -> None:
        self.of = layer(shape, dtype)

    def time_dense_forward(self, shape: tuple[int, int, int], dtype: str) -> None:
        of = self.of
        self.take(lambda: forward(of.x, of.w, of.b, kernels.RELU, of.z, of.out, of.products), of.products)

    def time_dense_backward_weights(self, shape: tuple[int, int, int], dtype: str) -> None:
        of = self.of
        self.take(lambda: backward_weights(of.x, of.d, of.dw, of.products), of.products)

    def time_dense_backward_biases(self, shape: tuple[int, int, int], dtype: str) -> None:
        of = self.of
        self.take(lambda: backward_biases(of.d, of.db, of.sums), of.sums)

    def time_dense_backward_inputs(self, shape: tuple[int, int, int], dtype: str) -> None:
        of = self.of
        self.take(lambda: backward_inputs(of.d, of.w, kernels.RELU, of.x, of.scratch, of.dx, of.products), of.products)


class Activation(Timed):
    """Each activation and its derivative, on a layer of 256 rows, 64 inputs, 64 outputs, float32."""

    params = (ACTIVATIONS,)
    param_names = ("activation",)

    def setup(self, activation: str) -> None:
        self.of, self.code = layer((256, 64, 64), "float32"), getattr(kernels, activation.upper())

    def time_dense_forward(self, activation: str) -> None:
        of = self.of
        self.take(lambda: forward(of.x, of.w, of.b, self.code, of.z, of.out, of.products), of.products)

    @skip_for_params([("softmax",)])  # of the output only
    def time_dense_backward_inputs(self, activation: str) -> None:
        of = self.of
        self.take(lambda: backward_inputs(of.d, of.w, self.code, of.x, of.scratch, of.dx, of.products), of.products)
