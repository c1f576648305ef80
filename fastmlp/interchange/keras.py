"""Networks from Keras 3."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np

from fastmlp import checks
from fastmlp.interchange import hdf5
from fastmlp.interchange.archive import Archive
from fastmlp.interchange.chain import Chain, Dropout, Loss
from fastmlp.model import Model

Sequential: TypeAlias = Any  # of Keras, which is not imported for its types

WHAT = "a file that Keras 3 wrote of a Sequential"
LONGEST_CONFIG, LONGEST_SHARE = 2**17, 20  # bytes, or that share of the file: in memory it takes up to 25 times as much
MODULES = ("keras", "keras.layers", "keras.models")
EPSILON = 1e-7  # Normalization's least standard deviation
DEEPEST = 8  # Sequentials within one another

# Keras's names of activations, and fastmlp's; its leaky_relu has another slope.
ACTIVATIONS = {
    name: name
    for name in ("relu", "elu", "gelu", "silu", "softplus", "sigmoid", "tanh", "softmax", "selu", "mish", "squareplus")
} | {"linear": "identity", "swish": "silu", "hard_silu": "hardswish", "hard_swish": "hardswish", "exponential": "exp"}
LAST_AXIS = (-1, 1, [-1], [1], (-1,), (1,))  # of rows
# Layers that are activations: fastmlp's name, and the settings with which they are that.
LAYERS: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "ReLU": ("relu", {"max_value": (None,), "negative_slope": (0, None), "threshold": (0, None)}),
    "LeakyReLU": ("leaky_relu", {"negative_slope": (0.01,)}),
    "ELU": ("elu", {"alpha": (1,)}),
    "Softmax": ("softmax", {"axis": LAST_AXIS}),
    "Identity": ("identity", {}),
}


Arrays = list[tuple[tuple[int, ...], Callable[[], np.ndarray]]]  # of a layer: their shapes, and what reads them


class Source(Protocol):
    """Where the arrays come from."""

    def arrays(self, path: tuple[str, ...], count: int) -> Arrays:
        """Those of the layer at this path, which is the next one that has any."""


def from_keras(source: Sequential | str | os.PathLike[str], loss: Loss = None, dropout: Dropout = None) -> Model:
    """A model of a ``Sequential`` of Keras 3, with copies of its parameters.

    Parameters
    ----------
    source : keras.Sequential or path
        A model that has been built, or a ``.keras`` file, which is read without Keras. It has the layers ``Dense``, activations
        that fastmlp has (`fastmlp.activations`), by name or as layers with settings that give the same function, ``Dropout``,
        ``Flatten``, ``InputLayer``, ``Sequential`` again, and before all others ``Normalization``.
    loss : str, CustomLoss, RowLoss or None
        As for `Model`. None: ``cross_entropy`` for a net that ends in a softmax, ``bce`` for one that ends in a sigmoid, else
        ``mse``. With ``cross_entropy`` or ``bce`` a net that ends in a ``Dense`` without an activation is taken for one of
        logits, as by Keras's losses with ``from_logits=True``: the model has the softmax or sigmoid behind it.
    dropout : float, sequence of float or None
        As for `Model`. None: that of the ``Dropout`` behind hidden layers; else these are left out.

    Returns
    -------
    Model
        Of float32 if all parameters are float32 or float16, which is widened, else of float64.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the net, or the file, has anything else; the message says what it is.
    OSError
        If the file cannot be read.

    Notes
    -----
    Outputs are those of Keras in inference, up to rounding. ``leaky_relu`` as a name has a slope of 0.2, and ``LeakyReLU`` one
    of 0.3 by default: they are refused, and so is ``LeakyReLU`` with any slope but 0.01. A ``Normalization`` becomes part of
    the first layer's parameters, in float64, which are then rounded. A ``Dense`` without a bias gets one of zeros, which
    training changes. A ``Flatten`` is what it is for inputs of one row each, so images are given as rows.

    **Files.** Names of classes are compared with a table, and nothing else is done with them: other layers, ``Lambda`` and
    custom objects are refused by their names. The arrays are read by a reader of our own, not by the HDF5 library, which can
    crash on damaged files: it takes what Keras writes, and refuses links, filters, chunks, external and virtual arrays. Arrays'
    shapes are compared with the layers' settings, and all sizes with the file's, before any number is read; so are checksums.
    Whole models in ``.h5``, the format before Keras 3, are refused: load them in Keras, and save them as ``.keras``.

    Examples
    --------
    ::

        net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3, "softmax")])
        model = fastmlp.from_keras(net)
        net.save("net.keras")
        model = fastmlp.from_keras("net.keras")

    >>> import fastmlp
    >>> try:
    ...     fastmlp.from_keras(3)
    ... except TypeError as error:
    ...     print(error)
    source must be a keras.Sequential or a path, got int
    """
    if isinstance(source, str | os.PathLike):
        with Archive(source, WHAT) as archive:
            chain = Chain(archive.refused, dropout)
            _of_file(archive, chain)
            return chain.model(loss)
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(source, keras.Model):
        raise TypeError(f"source must be a keras.Sequential or a path, got {type(source).__name__}")
    chain = Chain(lambda got: ValueError(f"source must be a Sequential of layers that fastmlp has, got {got}"), dropout)
    if not source.built:
        raise chain.refused("one that is not built: give it a keras.Input, or call it once")
    Reader(chain, Live(source)).take(keras.saving.serialize_keras_object(source))
    return chain.model(loss)


# ---- where the arrays are --------------------------------------------------------------------------------------------


class Live:
    """The arrays of a model in memory, layer by layer."""

    def __init__(self, model: Any) -> None:
        self._layers = iter(_with_arrays(model))

    def arrays(self, path: tuple[str, ...], count: int) -> Arrays:
        """Those of the next layer that has any."""
        layer = next(self._layers)
        arrays = layer.get_weights()[:count]
        for array in arrays:
            if array.dtype.kind != "f":
                raise ValueError(f"source must have parameters of real numbers, got {array.dtype} in {layer.name!r}")
        return [(array.shape, partial(np.asarray, array)) for array in arrays]


def _with_arrays(model: Any) -> list[Any]:
    layers: list[Any] = []
    for layer in model.layers:
        layers += _with_arrays(layer) if hasattr(layer, "layers") else [layer] if layer.weights else []
    return layers


class Stored:
    """The arrays of a file, under ``layers/NAME/vars/NUMBER``."""

    def __init__(self, data: bytes) -> None:
        self._file = hdf5.File(data)

    def arrays(self, path: tuple[str, ...], count: int) -> Arrays:
        """Those of the layer at this path."""
        folder = [word for name in path for word in ("layers", name)]
        members = self._file.group((*folder, "vars"))
        arrays: Arrays = []
        for number in map(str, range(count)):
            if number not in members:
                raise ValueError(f"weights without {'/'.join((*folder, 'vars', number))!r}")
            array = self._file.array(members[number], f"{'/'.join((*folder, 'vars', number))!r}")
            arrays.append((array.shape, partial(self._file.numbers, array)))
        return arrays


def _of_file(archive: Archive, chain: Chain) -> None:
    """Add the layers of a file to the chain."""
    for name in ("config.json", "model.weights.h5"):
        if name not in archive.entries:
            raise archive.refused(f"a zip archive without {name!r}")
    size = archive.entries["config.json"].size
    if size > max(LONGEST_CONFIG, archive.size // LONGEST_SHARE):
        raise archive.refused(f"a 'config.json' of {size} bytes, in a file of {archive.size}")
    data = archive.read("config.json")
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise archive.refused(f"a 'config.json' that is not JSON: {error}") from None
    try:
        Reader(chain, Stored(archive.read("model.weights.h5"))).take(config)
    except ValueError as error:
        raise error if str(error).startswith(repr(archive.path)) else archive.refused(str(error)) from None


# ---- the layers ------------------------------------------------------------------------------------------------------


class Reader:
    """Goes through a Sequential's settings, as Keras serialises them, and adds its layers to a chain."""

    def __init__(self, chain: Chain, source: Source) -> None:
        self._chain, self._source = chain, source
        self._scaling: tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]] | None = None
        self._first = True

    def take(self, config: Any, path: tuple[str, ...] = ()) -> None:
        """Add the layers of a Sequential at this path."""
        kind, settings = self._layer(config)
        if kind != "Sequential":
            raise self._chain.refused(f"a {kind}, where a Sequential is read")
        layers = settings.get("layers")
        if not isinstance(layers, list) or len(path) >= DEEPEST:
            raise self._chain.refused("a Sequential without layers, or too deep in others")
        counts: dict[str, int] = {}
        for layer in layers:
            kind, settings = self._layer(layer)
            number = counts[kind] = counts.get(kind, -1) + 1
            place = (*path, f"{kind.lower()}_{number}" if number else kind.lower())  # by class, whatever its name is
            if kind == "Sequential":
                self.take(layer, place)
            elif kind == "Dense":
                self._dense(settings, place)
            elif kind == "Normalization":
                self._normalization(settings, place)
            elif kind == "Dropout":
                self._dropout(settings)
            elif kind == "Activation":
                self._activation(settings.get("activation"), self._named(kind, settings))
            elif kind in LAYERS:
                self._activation(layer, self._named(kind, settings))
            elif kind not in ("InputLayer", "Flatten"):
                raise self._chain.refused(f"a layer {self._named(kind, settings)}")

    def _layer(self, config: Any) -> tuple[str, dict[str, Any]]:
        """The class and the settings of a layer of Keras's own."""
        match config:
            case {"module": str(module), "class_name": str(kind), "config": dict(settings)}:
                own = module in MODULES and config.get("registered_name") in (None, kind)
                if own:
                    return kind, settings
                raise self._chain.refused(f"a layer {module[:100]}.{kind[:100]}, which is not Keras's own")
        raise self._chain.refused("settings that are no layer's")

    def _named(self, kind: str, settings: dict[str, Any]) -> str:
        return f"{kind[:100]} {_shown(settings.get('name'))}"

    def _dropout(self, settings: dict[str, Any]) -> None:
        name, rate = self._named("Dropout", settings), settings.get("rate", 0)
        if type(rate) not in (int, float) or not 0 <= rate < 1 or settings.get("noise_shape") is not None:
            raise self._chain.refused(f"{name} of rate={_shown(rate)} and noise_shape={_shown(settings.get('noise_shape'))}")
        self._chain.dropout(name, rate)

    def _dense(self, settings: dict[str, Any], path: tuple[str, ...]) -> None:
        name, units, bias = self._named("Dense", settings), settings.get("units"), settings.get("use_bias", True)
        if type(units) is not int or type(bias) is not bool:
            raise self._chain.refused(f"{name} of units={_shown(units)} and use_bias={_shown(bias)}")
        if settings.get("lora_rank") is not None or settings.get("quantization_config") is not None:
            raise self._chain.refused(f"{name}, quantized or adapted by LoRA")
        arrays = self._source.arrays(path, 1 + bias)
        shapes = [shape for shape, _ in arrays]
        if [len(shape) for shape in shapes] != [2, 1][: 1 + bias] or any(shape[-1] != units for shape in shapes):
            raise self._chain.refused(f"{name} of {units} units with arrays of shapes {', '.join(map(str, shapes))}")
        read = [reads for _, reads in arrays]
        scaling, self._scaling = self._scaling, None
        self._chain.dense(name, shapes[0][0], units, partial(_parameters, read, scaling))
        if scaling is not None and len(self._means) != shapes[0][0]:
            raise self._chain.refused(f"{name} of {shapes[0][0]} inputs behind a Normalization of {len(self._means)}")
        self._first = False
        self._activation(settings.get("activation"), name)

    def _activation(self, value: Any, name: str) -> None:
        """Add an activation, by its name or as a layer."""
        if isinstance(value, str) or value is None:
            if (value or "linear") not in ACTIVATIONS:
                raise self._chain.refused(f"{name} with activation={_shown(value)}")
            self._chain.activation(name, ACTIVATIONS[value or "linear"])
            return
        kind, settings = self._layer(value)
        if kind not in LAYERS:
            raise self._chain.refused(f"{name} with an activation {kind!r:.100}")
        known, wanted = LAYERS[kind]
        for setting, values in wanted.items():
            # Keras 3.9 writes none for ELU, and reads 1; a live layer may then have another.
            silent = kind == "ELU" and setting not in settings and isinstance(self._source, Stored)
            if not silent and (setting not in settings or settings[setting] not in values):
                raise self._chain.refused(f"{name} with {setting}={_shown(settings.get(setting))}")
        self._chain.activation(name, known)

    def _normalization(self, settings: dict[str, Any], path: tuple[str, ...]) -> None:
        """Keep it for the next layer."""
        name = self._named("Normalization", settings)
        if not self._first or self._scaling is not None:
            raise self._chain.refused(f"{name} behind another layer")
        own = any(settings.get(setting) is not None for setting in ("mean", "variance")) or settings.get("invert", False)
        if own or settings.get("axis") not in LAST_AXIS:
            raise self._chain.refused(f"{name} with other settings than axis=-1, and the mean and variance of adapt()")
        (means, read_means), (variances, read_variances) = self._source.arrays(path, 2)
        if len(means) != 1 or means != variances:
            raise self._chain.refused(f"{name} with arrays of shapes {means} and {variances}")
        self._means, self._scaling = range(means[0]), (read_means, read_variances)


def _shown(value: Any) -> str:
    """A setting, for a message; what is nested may be too deep for one."""
    return f"{value!r:.100}" if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"


def _parameters(read: list[Callable[[], np.ndarray]], scaling: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """A Dense layer's weights and biases, for the inputs before they are scaled."""
    W, b = read[0](), read[1]() if len(read) > 1 else None
    if scaling is None:
        return W, b
    mean, variance = (reads().astype(np.float64) for reads in scaling)

    def folded() -> tuple[np.ndarray, np.ndarray]:
        wide = W / np.maximum(np.sqrt(variance), EPSILON)[:, None]
        return wide.astype(W.dtype), ((0.0 if b is None else b) - mean @ wide).astype(W.dtype)

    return checks.silently(folded)
