"""Checks of numbers and arrays. Each names the argument, what came and what was wanted."""

import ctypes
import os
from collections.abc import Callable, Collection
from contextvars import copy_context
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

FEW = 32  # numbers that Python checks sooner than NumPy does
MOST = 2**40  # of anything that is counted: far beyond use, and far from where 64 bits end
REAL = "fiub"  # dtypes' kinds
UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


def real(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """A finite number in a range."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        value = float(value)
    except OverflowError:
        value = float("inf")
    limits = [f"above {above:g}" if above is not None else "", f"at least {least:g}" if least is not None else ""]
    limits += [f"below {below:g}" if below is not None else "", f"at most {most:g}" if most is not None else ""]
    good = np.isfinite(value)
    good = good and (above is None or value > above) and (least is None or value >= least)
    if not (good and (below is None or value < below) and (most is None or value <= most)):
        raise ValueError(f"{name} must be a finite number {' and '.join(filter(None, limits))}, got {value!r}")
    return float(value)


def count(name: str, value: Any, least: int = 1, most: int = MOST) -> int:
    """A whole number in a range."""
    if type(value) is int and least <= value <= most:  # the usual case first: 0.1 us, not 0.5
        return value
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}")
    return int(value)


def choice(name: str, value: Any, known: Collection[str]) -> str:
    """One of the known names."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    return value


def text(name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}")
    return value


def generator(rng: Any) -> np.random.Generator:
    """A Generator from a seed, a Generator or None."""
    if rng is None or isinstance(rng, np.random.Generator | np.random.BitGenerator | np.random.SeedSequence):
        return np.random.default_rng(rng)
    if isinstance(rng, bool | np.bool_) or not isinstance(rng, int | np.integer):
        raise TypeError(f"rng must be an integer, a numpy.random.Generator or None, got {rng!r}")
    return np.random.default_rng(count("rng", rng, 0, 2**4096))


def seed(rng: Any) -> int:
    """64 bits that a training's own generator starts from."""
    if rng is None:
        return int.from_bytes(os.urandom(8), "little", signed=True)  # NumPy takes 10 us to make a Generator of the same
    return int(generator(rng).integers(-(2**63), 2**63))


def numbers(name: str, value: Any) -> np.ndarray:
    """An array of real numbers, of any dtype."""
    array = value if type(value) is np.ndarray else _as_array(name, value)
    if array.dtype.kind not in REAL:
        got = type(value).__name__ if array.ndim == 0 else f"dtype {array.dtype}"
        raise TypeError(f"{name} must hold real numbers, got {got}")
    return array


def _as_array(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "iloc"):
        return _of_pandas(name, value)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{name} must not have masked entries: fill them, or leave their rows out")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers, got {type(value).__name__}: {error}") from None


def _of_pandas(name: str, value: Any) -> np.ndarray:
    """The numbers of a frame or a series; as float64 if its columns are of several kinds, or some are missing (NaN)."""
    kinds = list(zip(value.columns, value.dtypes, strict=True)) if value.ndim == 2 else [(None, value.dtype)]
    for label, kind in kinds:
        if kind.kind not in REAL:
            where = "" if label is None else f" in column {label!r}"
            raise TypeError(f"{name} must hold real numbers, got dtype {kind}{where}")
    array = value.to_numpy() if len({kind for _, kind in kinds}) == 1 else None
    return array if array is not None and array.dtype.kind in REAL else value.to_numpy(np.float64, na_value=np.nan)


def contiguous(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array as the kernels read it, itself if it can be; always of the one type that they are compiled for."""
    flags = array.flags
    if array.dtype == dtype and flags.carray:
        return array
    if array.dtype == dtype and flags.c_contiguous and flags.aligned:
        return _as_writeable(array)
    if array.dtype.kind in "iub":
        return array.astype(dtype, order="C")
    return silently(lambda: array.astype(dtype, order="C"))  # beyond float32 lies inf, and inf is the loss's to report


def silently(work: Callable[[], T]) -> T:
    """The result of work(), without NumPy's warnings of overflow and of what is invalid.

    It runs in a copy of the context: nothing has to be put back, which an exception of a signal's handler might prevent.
    """

    def run() -> T:
        np.seterr(over="ignore", invalid="ignore")
        return work()

    return copy_context().run(run)


def _as_writeable(array: np.ndarray) -> np.ndarray:
    """The same memory as another array; to Numba a read-only array is another type. The kernels only read it."""
    memory: Any = (ctypes.c_byte * array.nbytes).from_address(array.ctypes.data)
    memory.owner = array  # lives as long as what is read through it
    return np.frombuffer(memory, array.dtype).reshape(array.shape)


def readable(array: np.ndarray, dtype: np.dtype) -> bool:
    """Whether the kernels read the array where it lies."""
    return array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned


def features(X: Any, columns: int, dtype: np.dtype, most: float = np.inf) -> np.ndarray:
    """X as a (rows, columns) array of the model's dtype; rows > 0. As it is if that would take more than `most` new bytes."""
    ready = type(X) is np.ndarray and X.dtype == dtype and X.flags.carray  # asked once: a tenth of a small net's prediction
    array = X if ready else numbers("X", X)
    if array.ndim != 2 or array.shape[1] != columns:
        raise ValueError(f"X must have shape (rows, {columns}), got {array.shape}")
    if len(array) == 0:
        raise ValueError(f"X must have at least one row, got shape {array.shape}")
    if ready or (array.size * dtype.itemsize > most and not readable(array, dtype)):
        return array
    return contiguous(array, dtype)


def output(name: str, out: Any, shape: tuple[int, ...], params: np.ndarray, **read: Any) -> np.ndarray:
    """`out` as the kernels write to it: of the parameters' dtype, and not in the way of what is read meanwhile."""
    wanted = f"{name} must be a writeable C-contiguous {params.dtype} array of shape {shape}, got"
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{wanted} {type(out).__name__}")
    if out.dtype != params.dtype or out.shape != shape:
        raise ValueError(f"{wanted} {out.dtype} of shape {out.shape}")
    flags = out.flags
    if not flags.carray:
        lacks = "read-only" if not flags.writeable else "not C-contiguous" if not flags.c_contiguous else "not aligned"
        raise ValueError(f"{wanted} one that is {lacks}")
    # Arrays that own their memory do not share it; to ask NumPy takes 0.4 us each time.
    apart = flags.owndata
    for array in read.values():
        apart = apart and out is not array and type(array) is np.ndarray and array.flags.owndata
    if not apart:
        for other, array in {**read, "the model's parameters": params}.items():
            if np.shares_memory(out, array):
                raise ValueError(f"{wanted} one that shares memory with {other}")
    return out if type(out) is np.ndarray else out.view(np.ndarray)


def within(array: np.ndarray, most: float) -> bool:
    """Whether every number lies in [0, most]; NaN does not."""
    if array.size <= FEW:
        # 0.2 us for four numbers, where `all` takes 0.4 and NumPy's smallest reduction 0.9.
        for value in array.ravel().tolist():  # noqa: SIM110
            if not 0 <= value <= most:
                return False
        return True
    # Read as unsigned integers, numbers below zero, and NaN, are larger than all others: one pass over the data decides.
    dtype = array.dtype
    unsigned = UNSIGNED.get(dtype.itemsize)
    if unsigned is not None and dtype.isnative:
        largest = array.view(unsigned).max()
        if dtype.kind in "bu":
            return int(largest) <= most
        if dtype.kind == "i":
            return int(largest) <= min(most, 2 ** (8 * dtype.itemsize - 1) - 1)
        if largest <= dtype.type(most).view(unsigned):
            return True
    return bool(((array >= 0) & (array <= most)).all())  # -0.0 is all right


def weights(name: str, value: Any, rows: int, dtype: Any = np.float64, *, signed: bool = False) -> np.ndarray:
    """A weight for each row: finite in the dtype; unless `signed`, none negative, and not all zero."""
    array = numbers(name, value)
    if array.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), a weight for each row, got {array.shape}")
    array = silently(lambda: array.astype(dtype))
    good = np.isfinite(array) & (signed | (array >= 0))
    if not good.all():
        raise ValueError(f"{name} must be finite{'' if signed else ' and at least 0'}, got {array[~good][0].item()!r}")
    sizes = np.abs(array) if signed else array
    total = silently(sizes.sum)
    if total < np.finfo(total.dtype).tiny and not (signed and total == 0):  # the kernels take subnormal numbers for 0
        wanted = "absolute values whose sum is 0 or a normal number" if signed else "a positive sum"
        raise ValueError(f"{name} must have {wanted}, got {'only zeros' if total == 0 else total.item()}")
    if not np.isfinite(total):
        raise ValueError(f"{name} must have a finite sum, got weights up to {sizes.max().item()!r}")
    return array


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def verbose(value: Any) -> int:
    """Epochs between two prints: a number, or True for 1; 0 or False for never."""
    return int(value) if isinstance(value, bool | np.bool_) else count("verbose", value, 0)


def dtype(value: Any) -> np.dtype:
    """float32 or float64."""
    try:
        found = np.dtype(value)
    except (TypeError, ValueError, SyntaxError):
        raise TypeError(f"dtype must be 'float32' or 'float64', got {value!r}") from None
    if found not in (np.float32, np.float64):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {value!r}")
    return found.newbyteorder("=")
