"""A trained network as a C header."""

import os
import re
from functools import partial
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.activations import ACTIVATIONS
from fastmlp.files import durable
from fastmlp.interchange import given
from fastmlp.interchange.rounding import bounds
from fastmlp.interchange.translate import Translator, filled, literal
from fastmlp.kernels.machine import interpreted
from fastmlp.model import Model
from fastmlp.types import ArrayLike, Exported

ROWS = 16  # of the self-test
MOST_STACK = 2**20  # bytes: all that a Windows program has, an eighth of a Linux one's

# ---- the header's parts: `filled` says what the capitals stand for ----------------------------------------------------

COMMENT = """\
/* TITLE.

   void NET_predict(const T *x, T *out);  one row of UPPER_INPUTS numbers to UPPER_OUTPUTS; the arrays do not overlap
   int NET_selftest(void);  0 if this build computes what fastmlp did, else the number of the first row that differs

   For C99, C++17 and GNU C++11. It allocates nothing, keeps no state, and needs STACK bytes of stack for its layers.
   -O3 -march=native makes it fast. What is known of its roundings: help(fastmlp.to_c). */
"""

BEGIN = """\
#ifndef UPPER_H
#define UPPER_H

#include <math.h>

#define UPPER_INPUTS COLUMNS
#define UPPER_OUTPUTS RESULTS

#ifndef UPPER_FUSED /* whether the processor has a fused multiply-add */
#if FUSED
#define UPPER_FUSED 1
#else
#define UPPER_FUSED 0
#endif
#endif

#ifdef __cplusplus
#define UPPER_RESTRICT __restrict
#else
#define UPPER_RESTRICT restrict
#endif

/* gcc vectorises no loop with a call, none that it has unrolled before, and none with a choice while it heeds traps. No number
   depends on these. */
#ifdef __GNUC__
#define UPPER_INLINE static inline __attribute__((always_inline))
#else
#define UPPER_INLINE static inline
#endif
#if defined(__GNUC__) && __GNUC__ >= 8 && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("no-trapping-math")
#define UPPER_LOOP _Pragma("GCC unroll UNROLL")
#else
#define UPPER_LOOP
#endif
"""

DENSE = """
/* z = b + x @ w, for the (n, columns) matrix w: a chain of multiply-adds for each of z. */
static inline void NET_dense(const T *UPPER_RESTRICT x, const T *UPPER_RESTRICT w, const T *UPPER_RESTRICT b,
                             T *UPPER_RESTRICT z, int n, int columns) {
    UPPER_LOOP for (int j = 0; j < columns; ++j) z[j] = b[j];
    for (int i = 0; i < n; ++i, w += columns) {
        UPPER_LOOP for (int j = 0; j < columns; ++j) z[j] = NET_fma(x[i], w[j], z[j]);
    }
}
"""

TOTAL = """
/* The sum of LANES numbers, by halves. */
UPPER_INLINE T NET_total(T *sums) {
HALVES    return sums[0] + sums[1];
}
"""

PREDICT = """
static inline void NET_predict(const T *UPPER_RESTRICT x, T *UPPER_RESTRICT out) {
STEPS}
"""

SELFTEST = """
static inline int NET_selftest(void) {
    static const T inputs[TESTS * UPPER_INPUTS] = GIVEN;
    static const T expected[TESTS * UPPER_OUTPUTS] = EXPECTED;
    static const T bounds[TESTS * UPPER_OUTPUTS] = BOUNDS;
    T out[UPPER_OUTPUTS];
    for (int i = 0; i < TESTS; ++i) {
        NET_predict(inputs + i * UPPER_INPUTS, out);
        for (int j = 0; j < UPPER_OUTPUTS; ++j)
            if (!(fabsF(out[j] - expected[i * UPPER_OUTPUTS + j]) <= bounds[i * UPPER_OUTPUTS + j])) return i + 1;
    }
    return 0;
}
"""

END = """
#if defined(__GNUC__) && __GNUC__ >= 8 && !defined(__clang__)
#pragma GCC pop_options
#endif

#endif
"""

# What tells of a fused multiply-add: gcc and glibc by the first, clang by the others. Some ARM cores have it in float32 alone.
FUSED = {
    np.dtype(np.float32): "defined(FP_FAST_FMAF) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)",
    np.dtype(np.float64): "defined(FP_FAST_FMA) || defined(__FMA__) || (defined(__ARM_FEATURE_FMA) && (__ARM_FP & 8))",
}

# ---- the export ------------------------------------------------------------------------------------------------------


def to_c(
    model: Exported,
    path: str | os.PathLike[str],
    name: str = "net",
    mean: ArrayLike | None = None,
    scale: ArrayLike | None = None,
) -> None:
    """Write a network as a C header that needs ``math.h`` only: for C99, C++17 and GNU's C++11.

    It has two functions and the macros ``NET_INPUTS`` and ``NET_OUTPUTS``; ``T`` is ``float`` or ``double``, as the dtype is.

    - ``void net_predict(const T *x, T *out)`` takes one row of inputs to its outputs; the arrays do not overlap.
    - ``int net_selftest(void)`` is 0 if this build computes what fastmlp does, else the number of the first test row that comes
      out wrong, from 1 on.

    Parameters
    ----------
    model : Model or fitted estimator
        An estimator's network is its `model_`: a classifier's outputs are probabilities, of ``classes_[1]`` if there are two
        classes, and those of a regressor with ``loss="poisson"`` logarithms.
    path : str or os.PathLike
        The file; one that is there is replaced.
    name : str
        What all names in the header begin with; macros have it in capitals.
    mean, scale : (inputs,) arrays or None
        Those of the inputs that the model was trained on as ``(X - mean) / scale``, such as ``mean_`` and ``scale_`` of
        scikit-learn's StandardScaler: the header then takes the inputs as they were before. They become part of the first
        layer's parameters, in float64, which are then rounded: where the mean is many times the scale, float32 loses figures.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the model has a `CustomActivation`, parameters or outputs that are not finite, or hidden layers of more than 1 MB;
        if `name` is no C identifier, or `mean` or `scale` out of range.
    OSError
        If the file cannot be written.

    Notes
    -----
    All functions are static: several files of a program may include the header, and a program several headers of different
    names. Nothing is allocated, nothing is kept between calls, and any number of threads may call them. The layers' outputs
    lie on the stack, in two arrays as long as the widest hidden layers.

    **Numbers.** The parameters are hexadecimal, exact to the last bit. The sums go in the order of the library's, and the
    activations are its own polynomials: their C is made from the kernels' source. So the outputs are those of a run with
    ``NUMBA_DISABLE_JIT=1`` on a processor with fused multiply-adds

    - to the last bit, if it is compiled with ``-ffp-contract=off -DNET_FUSED=1 -DNET_WIDE``: multiply-adds are then computed in
      the next wider type, as there. This is slow, and for comparisons;
    - in float32 with ``-ffp-contract=off`` where there are fused multiply-adds (``-march=native``, ``-mfma``): to the last bit,
      but for some two in 10**9 multiply-adds, which that wider type rounds twice;
    - in all other cases up to rounding.

    Rounding is what ``net_selftest`` allows for, in 16 rows whose outputs the library computes at the export: eight standard
    deviations of all roundings on the way to an output, taken as independent. What keeps to IEEE 754 keeps to it. Nothing is
    promised of ``-ffast-math``: there the test says whether it did. Inputs that are not finite give what `Model.predict` gives.

    **Speed.** With ``-O3 -march=native`` gcc (12) and clang (14) vectorise all loops over a layer's outputs, products and
    activations alike, but for the root in ``squareplus``, which needs ``-fno-math-errno`` too. gcc 11 leaves out float32's
    ``tanh``, and gcc's ``-O2`` most of them.

    **Size.** A parameter takes some 17 bytes of text in float32, 25 in float64; gcc needs 10 seconds and 300 MB for a million.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastmlp
    >>> model = fastmlp.Model.from_weights([[[2.0], [3.0]]], [[1.5]], activations=["tanh"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "net.h")
    ...     fastmlp.to_c(model, path)
    ...     text = path.read_text()
    >>> print(text[text.index("static const double net_weights1") :].partition(";")[0])
    static const double net_weights1[2] = {
        0x1p+1, 0x1.8p+1,
    }
    """
    net = given.network(model)
    to = given.file(path)
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", checks.text("name", name)):
        raise ValueError(f"name must be a C identifier that begins with a letter, got {name!r}")
    stack = sum(_buffers(net)) * net.dtype.itemsize
    if stack > MOST_STACK:
        raise ValueError(f"model must have hidden layers that fit into {MOST_STACK} bytes of stack, got {stack}")
    columns = net.sizes[0]
    centre = np.zeros(columns) if mean is None else _of_columns("mean", mean, columns)
    spread = np.ones(columns) if scale is None else _of_columns("scale", scale, columns)
    if not (spread > 0).all():
        raise ValueError(f"scale must be above 0, got {spread[spread <= 0][0].item()!r}")
    if mean is not None or scale is not None:
        net = _of_raw_inputs(net, centre, spread)
    text = _text(net, name, stack, _test_rows(net, centre, spread))
    with durable.writing(to) as file:
        file.write(text.encode("ascii"))


def _of_columns(name: str, value: ArrayLike, columns: int) -> np.ndarray:
    array = checks.numbers(name, value).astype(np.float64)
    if array.shape != (columns,):
        raise ValueError(f"{name} must have shape ({columns},), a number for each input, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0].item()!r}")
    return array


def _of_raw_inputs(net: Model, mean: np.ndarray, scale: np.ndarray) -> Model:
    """The network that does to x what `net` does to (x - mean) / scale."""

    def folded() -> list[np.ndarray]:
        W = net.weights[0].astype(np.float64) / scale[:, None]
        return [array.astype(net.dtype) for array in (W, net.biases[0] - mean @ W)]

    W, b = checks.silently(folded)
    activations: Any = net.activations
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise ValueError(f"mean and scale must leave the first layer finite in {net.dtype}, got a scale of {scale.min():g}")
    return Model.from_weights([W, *net.weights[1:]], [b, *net.biases[1:]], activations, dtype=net.dtype)


def _test_rows(net: Model, mean: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs, the library's outputs for them, and their bounds: normal, or nearer to the mean if only there all is finite."""
    normal = np.random.default_rng(0).standard_normal((ROWS, len(mean)))
    for size in (1.0, 0.1, 0.01, 0.0):
        X = checks.contiguous(mean + size * scale * normal, net.dtype)
        expected, within = net.predict(X), checks.contiguous(checks.silently(partial(bounds, net, X)), net.dtype)
        if np.isfinite(expected).all() and np.isfinite(within).all():
            return {"GIVEN": X, "EXPECTED": expected, "BOUNDS": within}
    got = f"outputs up to {np.abs(expected).max():g}, known to within {within.max():g}"
    raise ValueError(f"model must have finite outputs and rounding errors for inputs of 0, or of the mean, got {got}")


# ---- its text --------------------------------------------------------------------------------------------------------


def _buffers(net: Model) -> tuple[int, int]:
    """How long the two must be between which the hidden layers' outputs alternate."""
    hidden = net.sizes[1:-1]
    return max(hidden[0::2], default=0), max(hidden[1::2], default=0)


def _text(net: Model, name: str, stack: int, rows: dict[str, np.ndarray]) -> str:
    translator = Translator(name, net.dtype)
    translator.intrinsic("fma")

    def put(text: str, **words: str) -> str:
        return filled(text, name, net.dtype, **words)

    lanes = interpreted.VECTOR_BYTES // net.dtype.itemsize
    steps = "".join(f"    {put(line)}\n" for line in _steps(net, translator, lanes))
    # To unroll by 8 keeps the sums of 64 units in registers (4-64-64-2: 230, not 330 ns), but a loop of 8 is then unrolled
    # before it could be vectorised (6-8-8-2: 64, not 32 ns).
    unroll = "4" if any(4 < width <= 8 for width in net.sizes[1:]) else "8"
    # One loop over the halves is not unrolled (8-16-1: 25, not 17 ns).
    halves = "".join(f"    for (int j = 0; j < {n}; ++j) sums[j] += sums[j + {n}];\n" for n in (8, 4, 2) if n < lanes)
    parts = [
        put(COMMENT, TITLE=given.title(net), STACK=str(stack)),
        put(BEGIN, COLUMNS=str(net.sizes[0]), RESULTS=str(net.sizes[-1]), FUSED=FUSED[net.dtype], UNROLL=unroll),
        *(f"{text}\n" for text in translator.texts.values()),
        put(DENSE) if "_dense(" in steps else "",
        put(TOTAL, LANES=str(lanes), HALVES=halves) if "_total(" in steps else "",
    ]
    for i, (W, b) in enumerate(zip(net.weights, net.biases, strict=True), 1):
        for numbers, what in ((W, "weights"), (b, "biases")):
            parts.append(put(f"\nstatic const T NET_{what}{i}[{numbers.size}] = NUMBERS;\n", NUMBERS=_braced(numbers)))
    parts.append(put(PREDICT, STEPS=steps))
    parts.append(put(SELFTEST, TESTS=str(ROWS), **{word: _braced(numbers) for word, numbers in rows.items()}))
    return "".join(parts) + END


def _braced(numbers: np.ndarray) -> str:
    texts = [literal(number, numbers.dtype) for number in numbers.ravel().tolist()]
    return "{\n" + "".join(f"    {', '.join(texts[i : i + 8])},\n" for i in range(0, len(texts), 8)) + "}"


def _steps(net: Model, translator: Translator, lanes: int) -> list[str]:
    """The lines of `predict`."""
    lines = [f"T {letter}[{size}];" for letter, size in zip("ab", _buffers(net), strict=True) if size]
    x = "x"
    for i, name in enumerate(map(str, net.activations), 1):
        fan_in, fan_out = net.sizes[i - 1], net.sizes[i]
        z = "out" if i == len(net.activations) else "ab"[i % 2 - 1]
        if fan_out > 1:
            lines.append(f"NET_dense({x}, NET_weights{i}, NET_biases{i}, {z}, {fan_in}, {fan_out});")
        else:
            lines += _sum(fan_in, f"sums[j] = NET_fma({x}[AT], NET_weights{i}[AT], sums[j]);", lanes)
            lines += [f"    {z}[0] = NET_total(sums) + NET_biases{i}[0];", "}"]
        value = ACTIVATIONS[name].value
        if name == "softmax":
            lines += _softmax(z, fan_out, translator, lanes)
        elif value:
            lines.append(f"UPPER_LOOP for (int j = 0; j < {fan_out}; ++j) {z}[j] = {translator.function(value)}({z}[j]);")
        x = z
    return lines


def _sum(count: int, step: str, lanes: int) -> list[str]:
    """The beginning of a block in which as many sums as a register has lanes share the steps, as in `dot_rows`."""
    whole, rest = count // lanes * lanes, count % lanes
    lines = ["{", f"    T sums[{lanes}] = {{ZERO}};"]
    if whole:
        loop = f"UPPER_LOOP for (int j = 0; j < {lanes}; ++j) {step.replace('AT', 'i + j')}"
        lines.append(f"    for (int i = 0; i < {whole}; i += {lanes}) {{ {loop} }}")
    if rest:
        at = f"{whole} + j" if whole else "j"
        lines.append(f"    UPPER_LOOP for (int j = 0; j < {rest}; ++j) {step.replace('AT', at)}")
    return lines


def _softmax(z: str, count: int, translator: Translator, lanes: int) -> list[str]:
    power, maximum = translator.function(ACTIVATIONS["exp"].value), translator.intrinsic("maximum")
    each = f"    UPPER_LOOP for (int j = 0; j < {count}; ++j) {z}[j]"
    return [
        "{",
        f"    T high = {z}[0];",
        f"    for (int j = 1; j < {count}; ++j) high = {maximum}(high, {z}[j]);",
        f"{each} = {power}({z}[j] - high);",
        "}",
        *_sum(count, f"sums[j] += {z}[AT];", lanes),
        "    T scale = ONE / NET_total(sums);",
        f"{each} *= scale;",
        "}",
    ]
