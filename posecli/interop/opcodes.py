"""A pickle read as data: what it says is written down, nothing in it is imported or called.

`pickletools` cuts the file into opcodes and decodes their arguments; the machine here only moves values about. Where
pickle would import a name, a Global with that name is left; where it would call something, a Record of the call.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Global:
    """A class or function that a pickle names: the name only."""

    name: str  # module.qualified_name


@dataclass(eq=False)
class Record:
    """An object that pickle would have made by a call: the name of what it calls, and what it passes."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[tuple[Any, Any]] = field(default_factory=list)  # set as obj[key] = value
    elements: list[Any] = field(default_factory=list)  # appended


@dataclass(frozen=True, eq=False)
class Reference:
    """Something kept outside of the pickle: in torch's files, the numbers of a tensor."""

    key: Any


class PickleFault(ValueError):
    """The bytes are not a pickle this reader knows."""


def read_pickle(stream: BinaryIO) -> Any:
    """The first pickle in `stream`, which is left right behind it.

    Plain containers, numbers, text and bytes as they are; all else as Global, Record and Reference.
    Raises PickleFault or ValueError for anything that is not a whole pickle.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(stream):
        machine.step(opcode.name, argument)
    return machine.pop()


_MARK = object()
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_ARGUMENT_IS_VALUE = frozenset(_NUMBERS | _TEXTS | _BYTES)
_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}


class _Machine:
    """The stack and memo of pickle's little language."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.actions: dict[str, Callable[[Any], None]] = {
            name.removeprefix("_op_").upper(): getattr(self, name) for name in dir(self) if name.startswith("_op_")
        }

    def step(self, name: str, argument: Any) -> None:
        if name in _ARGUMENT_IS_VALUE:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in self.actions:
            self.actions[name](argument)
        elif name not in _IGNORED:
            raise PickleFault(f"the pickle uses {name}, which is not read")

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleFault("the pickle ends early or is damaged")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        for position in range(len(self.stack) - 1, -1, -1):
            if self.stack[position] is _MARK:
                values = self.stack[position + 1 :]
                del self.stack[position:]
                return values
        raise PickleFault("the pickle ends early or is damaged")

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    # stack and memo

    def _op_mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _op_pop(self, _: Any) -> None:
        if not self.stack:
            raise PickleFault("the pickle is damaged")
        self.stack.pop()  # a mark may be popped too

    def _op_pop_mark(self, _: Any) -> None:
        self.pop_to_mark()

    def _op_dup(self, _: Any) -> None:
        self.stack.append(self.top())

    def _op_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.top()

    def _op_put(self, argument: int) -> None:
        self.memo[argument] = self.top()

    _op_binput = _op_long_binput = _op_put

    def _op_get(self, argument: int) -> None:
        if argument not in self.memo:
            raise PickleFault("the pickle refers to something it never stored")
        self.stack.append(self.memo[argument])

    _op_binget = _op_long_binget = _op_get

    # containers

    def _op_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _op_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _op_empty_set(self, _: Any) -> None:
        self.stack.append(set())

    def _op_list(self, _: Any) -> None:
        self.stack.append(self.pop_to_mark())

    def _op_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def _op_tuple1(self, _: Any) -> None:
        self.stack.append((self.pop(),))

    def _op_tuple2(self, _: Any) -> None:
        second, first = self.pop(), self.pop()
        self.stack.append((first, second))

    def _op_tuple3(self, _: Any) -> None:
        third, second, first = self.pop(), self.pop(), self.pop()
        self.stack.append((first, second, third))

    def _op_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(self.pop_to_mark()))

    def _op_dict(self, _: Any) -> None:
        self.stack.append(dict(_pairs(self.pop_to_mark())))

    def _op_append(self, _: Any) -> None:
        self._extend([self.pop()])

    def _op_appends(self, _: Any) -> None:
        self._extend(self.pop_to_mark())

    def _op_additems(self, _: Any) -> None:
        self._extend(self.pop_to_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Record):
            target.elements.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        elif isinstance(target, set):
            target.update(values)
        else:
            raise PickleFault("the pickle appends to something that is no list")

    def _op_setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._update([(key, value)])

    def _op_setitems(self, _: Any) -> None:
        self._update(_pairs(self.pop_to_mark()))

    def _update(self, pairs: list[tuple[Any, Any]]) -> None:
        target = self.top()
        if isinstance(target, Record):
            target.items.extend(pairs)
        elif isinstance(target, dict):
            target.update(pairs)
        else:
            raise PickleFault("the pickle sets items of something that is no dict")

    # names, calls and state: only written down

    def _op_global(self, argument: str) -> None:
        self.stack.append(_global(*argument.split(" ", 1)))

    def _op_stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(_global(module, name))

    def _op_reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(_call(function, arguments))

    def _op_newobj(self, _: Any) -> None:
        self._op_reduce(None)

    def _op_newobj_ex(self, _: Any) -> None:
        keywords, arguments, function = self.pop(), self.pop(), self.pop()
        record = _call(function, arguments)
        record.items.extend(dict(keywords).items())
        self.stack.append(record)

    def _op_inst(self, argument: str) -> None:
        self.stack.append(_call(_global(*argument.split(" ", 1)), tuple(self.pop_to_mark())))

    def _op_obj(self, _: Any) -> None:
        function, *arguments = self.pop_to_mark()
        self.stack.append(_call(function, tuple(arguments)))

    def _op_build(self, _: Any) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, Record):
            raise PickleFault("the pickle gives a state to a plain value")
        target.state = state

    def _op_persid(self, argument: Any) -> None:
        self.stack.append(Reference(argument))

    def _op_binpersid(self, _: Any) -> None:
        self.stack.append(Reference(self.pop()))


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _global(module: Any, name: Any) -> Global:
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleFault("the pickle names something without a name")
    return Global(f"{_OLD_MODULES.get(module, module)}.{name}")


def _call(function: Any, arguments: Any) -> Record:
    if not isinstance(arguments, tuple):
        raise PickleFault("the pickle calls something without arguments")
    if isinstance(function, Record):
        return Record(f"{function.name}()", (function, *arguments))
    if not isinstance(function, Global):
        raise PickleFault("the pickle calls something that is no function")
    made_of = arguments[0] if arguments and isinstance(arguments[0], Global) else None
    if made_of and function.name in {"copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__"}:
        return Record(made_of.name, arguments[1:])  # pickle's own ways of making an instance of a class
    return Record(function.name, arguments)
