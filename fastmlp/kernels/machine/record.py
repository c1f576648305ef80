"""Records: fields with names over flat int64 or float64 memory, the same for Python and for compiled code.

A record's class lists its fields, each an ``int`` or each a ``float``. ``Layer(base)`` is the record that starts at `base`: of
an array in Python, of an address in compiled code. Then ``layer.fan_in`` reads and ``layer.fan_in = 3`` writes the memory; in
compiled code ``layer + 1`` is the record behind it. In Python that takes 40 ns, as much as an array's element.
"""

import ctypes
import operator
from typing import TYPE_CHECKING, Any, Self

from llvmlite import ir
from numba import types
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_builtin, lower_getattr_generic, lower_setattr_generic
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import typeof_impl

from fastmlp.kernels.machine import interpreted
from fastmlp.kernels.machine.pointer import CHECKED, WORD, PointerType, address, element, offset

KINDS = {"int": (ctypes.c_int64, types.int64), "float": (ctypes.c_double, types.float64)}


class RecordMeta(type):
    """The classes of records."""

    names: dict[str, int]
    words: int
    number: types.Number
    _view: Any

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> None:
        super().__init__(name, bases, body)
        marks = body.get("__annotations__", {})
        if marks:
            kind, cls.number = KINDS[next(iter(marks.values()))]
            cls.names = {field: place for place, field in enumerate(marks)}
            cls.words = len(marks)
            cls._view = type(name, (ctypes.Structure,), {"_fields_": [(field, kind) for field in marks]})

    def __call__(cls, base: Any) -> Any:
        if isinstance(base, interpreted.Pointer):
            return interpreted.Record(base, cls.names)
        return cls._view.from_buffer(base)


class Record(metaclass=RecordMeta):
    """What all records have: `names`, their fields' places; `words`, how many of 8 bytes; `number`, the fields' Numba type."""

    if TYPE_CHECKING:

        def __init__(self, base: Any) -> None: ...

        def __add__(self, count: int) -> Self: ...


class RecordType(types.Type):
    """The Numba type of an address of a record."""

    def __init__(self, record: type[Record]) -> None:
        self.record, self.pointer = record, PointerType(record.number)
        super().__init__(f"Record({record.__module__}.{record.__qualname__})")


class RecordClass(types.Callable, types.Opaque):
    """The Numba type of a record's class, which makes a record of an address."""

    def __init__(self, record: type[Record]) -> None:
        self.record = record
        super().__init__(f"RecordClass({record.__module__}.{record.__qualname__})")

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """A record of an address of its numbers."""
        kind = RecordType(self.record)
        return signature(kind, kind.pointer) if list(args) == [kind.pointer] else None

    def get_call_signatures(self) -> Any:
        """What it can be called with."""
        kind = RecordType(self.record)
        return [signature(kind, kind.pointer)], False

    def get_impl_key(self, sig: Any) -> Any:
        """Whose code makes one."""
        return Record


@typeof_impl.register(RecordMeta)
def _typeof(record: Any, context: Any) -> Any:
    return RecordClass(record)


register_default(RecordClass)(models.OpaqueModel)


if CHECKED:

    @register_default(RecordType)
    class _RecordModel(models.StructModel):
        def __init__(self, manager: Any, fe_type: RecordType) -> None:
            super().__init__(manager, fe_type, [("at", types.intp), ("first", types.intp), ("last", types.intp)])

else:

    @register_default(RecordType)
    class _RecordModel(models.PrimitiveModel):  # type: ignore[no-redef]
        def __init__(self, manager: Any, fe_type: RecordType) -> None:
            super().__init__(manager, fe_type, ir.PointerType(element(fe_type.record.number)))


@lower_builtin(Record, PointerType)
def _of_pointer(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    return args[0]


@infer_getattr
class _Fields(AttributeTemplate):
    key = RecordType

    def generic_resolve(self, kind: Any, name: str) -> Any:
        return kind.record.number if name in kind.record.names else None


def field(context: Any, builder: ir.IRBuilder, kind: RecordType, value: ir.Value, name: str) -> ir.Value:
    """The machine address of a field."""
    place = offset(builder, kind.pointer, value, WORD(kind.record.names[name]))
    return address(context, builder, kind.pointer, place)


@lower_getattr_generic(RecordType)
def _getattr(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value, name: str) -> ir.Value:
    return builder.load(field(context, builder, kind, value, name))


@lower_setattr_generic(RecordType)
def _setattr(context: Any, builder: ir.IRBuilder, sig: Any, args: Any, name: str) -> None:
    number = context.cast(builder, args[1], sig.args[1], sig.args[0].record.number)
    builder.store(number, field(context, builder, sig.args[0], args[0], name))


@infer_global(operator.add)
class _Next(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 2 and isinstance(args[0], RecordType) and isinstance(args[1], types.Integer):
            return signature(args[0], args[0], types.intp)
        return None


@lower_builtin(operator.add, RecordType, types.Integer)
def _add(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    kind = sig.args[0]
    return offset(builder, kind.pointer, args[0], builder.mul(args[1], WORD(kind.record.words)))
