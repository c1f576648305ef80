"""A machine for the pickles of state_dicts: it knows tensors, containers and numbers, and looks no class or function up.

A pickle is a program for a machine with a stack. This one has the operations that ``torch.save`` writes for a state_dict. Names
of classes and functions are text to it, of which it knows those in `FUNCTIONS` and `STORAGES`; anything else ends it.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from fastmlp.checks import MOST

# Of the classes of storages: the dtype of their numbers; those of bfloat16 are read as integers.
STORAGES = {
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<u2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
    "torch.BoolStorage": "<u1",
}
LONGEST_NAME = 256
LONGEST_INTEGER = 8  # bytes
DIMENSIONS = 8


class Name(NamedTuple):
    """A class or a function, which nobody looks up."""

    text: str


class Storage(NamedTuple):
    """Numbers in an entry of the archive."""

    key: str
    kind: str
    numbers: int


class Tensor(NamedTuple):
    """A view of a storage, in numbers; it lies within."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def extent(self) -> int:
        """How many numbers of the storage lie from its first to its last."""
        return _extent(self.shape, self.strides)


def _extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    if 0 in shape:
        return 0
    return 1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))


# ---- what a pickle may call --------------------------------------------------------------------------------------------


def _dictionary(*arguments: Any) -> dict[Any, Any]:
    if arguments:
        raise ValueError("an OrderedDict with arguments")
    return {}


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(rest) > 3:
        raise ValueError("a tensor that is made of something else than a storage and its shape")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > DIMENSIONS or not all(type(n) is int and 0 <= n <= MOST for n in numbers):
        raise ValueError("a tensor whose shape, strides or offset are no such numbers")
    if offset + _extent(shape, strides) > storage.numbers:
        raise ValueError(f"a tensor of shape {shape} that reaches beyond its storage of {storage.numbers} numbers")
    tensor = Tensor(storage, offset, shape, strides)
    if tensor.numbers > tensor.extent:
        raise ValueError(f"a tensor of shape {shape} whose numbers lie over one another")
    return tensor


def _parameter(data: Any, *rest: Any) -> Tensor:
    if not isinstance(data, Tensor) or len(rest) != 2:
        raise ValueError("a Parameter that is made of something else than a tensor")
    return data


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}

# ---- the machine -------------------------------------------------------------------------------------------------------

MARK = Name("(")  # where a tuple's or a dictionary's items begin


class Machine:
    """Runs one pickle.

    Text is kept as its bytes in UTF-8, which take no more room than the pickle; bytes and long integers are kept as None.

    Parameters
    ----------
    data : bytes
    steps : int
        The most operations: what each makes takes some 100 bytes.
    """

    def __init__(self, data: bytes, steps: int) -> None:
        self._data, self._at, self._steps = data, 0, steps
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """What the pickle makes; raises ValueError with what is wrong with it, as it goes on from "got"."""
        for _ in range(self._steps):
            code = self._take(1)
            if code == b".":
                if len(self._stack) != 1 or self._at != len(self._data):
                    raise ValueError("a damaged pickle, which does not end where it should")
                return self._pop()
            if code not in OPERATIONS:
                raise ValueError(f"a pickle with the operation {code!r}, which no state_dict needs")
            OPERATIONS[code](self)
        raise ValueError(f"a pickle of more than {self._steps} operations")

    # ---- its parts ----

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise ValueError("a damaged pickle, which ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def _number(self, form: str) -> int:
        number: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return number

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is MARK:
            raise ValueError("a damaged pickle, which takes what is not there")
        return self._stack.pop()

    def _top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise ValueError(f"a damaged pickle, which adds to a {kind.__name__} that is none")
        return self._stack[-1]

    def _items(self) -> list[Any]:
        """All since the last mark."""
        for at in range(len(self._stack) - 1, -1, -1):
            if self._stack[at] is MARK:
                items = self._stack[at + 1 :]
                del self._stack[at:]
                return items
        raise ValueError("a damaged pickle, which has no mark where it needs one")

    def _text(self) -> str:
        """A name's part."""
        text = self._pop()
        if not isinstance(text, bytes) or len(text) > LONGEST_NAME:
            raise ValueError("a damaged pickle, with a name that is none")
        return text.decode("utf-8", "replace")

    # ---- its operations ----

    def push(self, value: Any) -> None:
        """Put on the stack."""
        self._stack.append(value)

    def tuple_of(self, count: int) -> None:
        """Of the last items."""
        self.push(tuple([self._pop() for _ in range(count)][::-1]))

    def text(self, form: str) -> None:
        """Push text."""
        self.push(self._take(self._number(form)))

    def opaque(self, form: str) -> None:
        """Push None in the place of bytes."""
        self._take(self._number(form))
        self.push(None)

    def long(self) -> None:
        """Push an integer; None if it is long."""
        data = self._take(self._number("<B"))
        self.push(int.from_bytes(data, "little", signed=True) if len(data) <= LONGEST_INTEGER else None)

    def put(self, index: int) -> None:
        """Note the last item."""
        if not self._stack or self._stack[-1] is MARK:
            raise ValueError("a damaged pickle, which notes what is not there")
        self._memo[index] = self._stack[-1]

    def get(self, index: int) -> None:
        """Push an item that was noted."""
        if index not in self._memo:
            raise ValueError("a damaged pickle, which takes what it has not noted")
        self.push(self._memo[index])

    def line(self) -> bytes:
        """Text to the line's end."""
        end = self._data.find(b"\n", self._at, self._at + LONGEST_NAME)
        if end < 0:
            raise ValueError("a damaged pickle, with a name that does not end")
        return self._take(end + 1 - self._at)[:-1]

    def name(self) -> None:
        """Push the name of a class or a function."""
        last, module = self._text(), self._text()
        name = Name(f"{module}.{last}")
        if name.text not in FUNCTIONS and name.text not in STORAGES:
            raise ValueError(
                f"a pickle that names {name.text}; save the module's state_dict: torch.save(module.state_dict(), path)"
            )
        self.push(name)

    def named(self) -> None:
        """Push the name that is written here."""
        self.push(self.line())
        self.push(self.line())
        self.name()

    def persistent(self) -> None:
        """Push a storage."""
        match self._pop():
            case (b"storage", Name(kind), bytes(key), bytes(), int(count)) if kind in STORAGES and 0 <= count <= MOST:
                self.push(Storage(key[:LONGEST_NAME].decode("utf-8", "replace"), kind, count))
            case _:
                raise ValueError("a persistent id that is no storage's")

    def reduce(self) -> None:
        """Call a function."""
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Name) or function.text not in FUNCTIONS or type(arguments) is not tuple:
            raise ValueError("a pickle that calls what is no function of a state_dict")
        try:
            self.push(FUNCTIONS[function.text](*arguments))
        except TypeError:  # too few arguments
            raise ValueError(f"a pickle that calls {function.text} with {len(arguments)} arguments") from None

    def build(self) -> None:
        """Leave out a state_dict's attributes, which tell of versions."""
        self._pop()
        self._top(dict)

    def append(self, items: list[Any]) -> None:
        """Add to a list."""
        self._top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Add to a dictionary."""
        to = self._top(dict)
        if len(items) % 2 or not all(type(key) in (bytes, int) for key in items[::2]):
            raise ValueError("a dictionary whose keys are neither text nor integers")
        to.update(zip(items[::2], items[1::2], strict=True))

    def set_item(self) -> None:
        """Add one item to a dictionary."""
        value, key = self._pop(), self._pop()
        self.set_items([key, value])

    def protocol(self) -> None:
        """The pickle's protocol."""
        if not 2 <= (number := self._number("<B")) <= 5:
            raise ValueError(f"a pickle of protocol {number}")


OPERATIONS: dict[bytes, Callable[[Machine], object]] = {
    b"\x80": Machine.protocol,
    b"\x95": lambda m: m._number("<Q"),  # a frame's length
    b"(": lambda m: m.push(MARK),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m._number("<i")),
    b"K": lambda m: m.push(m._number("<B")),
    b"M": lambda m: m.push(m._number("<H")),
    b"G": lambda m: m.push(m._number(">d")),
    b"\x8a": Machine.long,
    b"X": lambda m: m.text("<I"),
    b"\x8c": lambda m: m.text("<B"),
    b"\x8d": lambda m: m.text("<Q"),
    b"B": lambda m: m.opaque("<I"),
    b"C": lambda m: m.opaque("<B"),
    b")": lambda m: m.push(()),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"t": lambda m: m.push(tuple(m._items())),
    b"]": lambda m: m.push([]),
    b"a": lambda m: m.append([m._pop()]),
    b"e": lambda m: m.append(m._items()),
    b"}": lambda m: m.push({}),
    b"s": Machine.set_item,
    b"u": lambda m: m.set_items(m._items()),
    b"q": lambda m: m.put(m._number("<B")),
    b"r": lambda m: m.put(m._number("<I")),
    b"\x94": lambda m: m.put(len(m._memo)),
    b"h": lambda m: m.get(m._number("<B")),
    b"j": lambda m: m.get(m._number("<I")),
    b"c": Machine.named,
    b"\x93": Machine.name,
    b"Q": Machine.persistent,
    b"R": Machine.reduce,
    b"b": Machine.build,
}
