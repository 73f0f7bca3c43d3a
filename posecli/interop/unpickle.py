"""THE way into pickled files of others: torch checkpoints, pickled arrays, pickled annotations.

Tensors, arrays, plain containers and scalars come back as such; every other class becomes an inert Record. Nothing in
the file is imported or called: the only functions that run are those in this module.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from posecli.console import PosecliError
from posecli.interop.opcodes import Global, PickleFault, Record, Reference, read_pickle
from posecli.types import Array

__all__ = ["Global", "Record", "load_npy", "load_npz", "load_pickle", "load_torch", "record_names"]

Storages = Callable[[Any], Tensor]
"""What a torch file's reference stands for, as a flat tensor."""

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
TORCH_PROTOCOL = 1001
STORAGE_TYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
}
HARMFUL = re.compile(
    r"(_?pickle|asyncio|code|codeop|commands|ctypes|ftplib|http|imp|importlib|marshal|multiprocessing|nt|os|pip|posix"
    r"|pty|runpy|shutil|signal|smtplib|socket|subprocess|sys|tempfile|threading|urllib|webbrowser)\..*"
    r"|(_?io|codecs)\.(open|FileIO)|builtins\.(__import__|compile|eval|exec|execfile|input|open)"
)


def load_pickle(path: Path) -> Any:
    """The object in a pickle file. Raises PosecliError when it is damaged, or calls what no data file calls."""
    with _clearly(path, "pickle"), Path(path).open("rb") as stream:
        return _Rebuild().value(read_pickle(stream))


def load_torch(path: Path) -> Any:
    """What `torch.save` wrote, in its zip format or the older one, on the CPU. Raises PosecliError as `load_pickle`."""
    with _clearly(path, "torch checkpoint"), Path(path).open("rb") as stream:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as archive:
                return _load_torch_zip(archive)
        stream.seek(0)
        first = read_pickle(stream)
        if first == TORCH_MAGIC:
            return _load_torch_stream(stream)
        return _Rebuild().value(first)


def load_npy(path: Path) -> Array:
    """The array of a .npy file, also one of objects. Raises PosecliError as `load_pickle`."""
    with _clearly(path, ".npy file"), Path(path).open("rb") as stream:
        return _array_of_npy(stream)


def load_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file, also those of objects. Raises PosecliError as `load_pickle`."""
    with _clearly(path, ".npz file"), zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy"): _array_of_npy(io.BytesIO(archive.read(name))) for name in archive.namelist()}


def record_names(value: Any) -> dict[str, int]:
    """How often each class was left inert in a loaded value, by name."""
    names: dict[str, int] = {}
    for record in _records(value, set()):
        names[record.name] = names.get(record.name, 0) + 1
    return dict(sorted(names.items()))


def _records(value: Any, seen: set[int]) -> Iterator[Record]:
    if id(value) in seen or isinstance(value, str | bytes | int | float | Tensor | None):
        return
    seen.add(id(value))
    parts: list[Any] = []
    if isinstance(value, Record):
        yield value
        parts = [value.arguments, value.state, value.items, value.elements]
    elif isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        parts = list(value.flat)
    for part in parts:
        yield from _records(part, seen)


@contextmanager
def _clearly(path: Path, kind: str) -> Iterator[None]:
    """Whatever a damaged or hostile file makes go wrong ends in one line with its name."""
    try:
        yield
    except PosecliError as error:
        raise PosecliError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise PosecliError(f"no {kind} {path}: no such file") from error
    except RecursionError as error:
        raise PosecliError(f"cannot read {path}: its objects are nested too deeply") from error
    except Exception as error:
        raise PosecliError(f"cannot read {path}: damaged or not a {kind} ({type(error).__name__}: {error})") from error


# --- torch's containers ---------------------------------------------------------------------------------------------


def _load_torch_zip(archive: zipfile.ZipFile) -> Any:
    names = archive.namelist()
    root = next((name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")), None)
    if root is None:
        raise PickleFault("the archive has no data.pkl")
    if any(name.startswith(f"{root}code/") for name in names):
        raise PosecliError("this is a TorchScript program, not a checkpoint")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise PosecliError("written on a big-endian machine; save it again on a little-endian one")
    stored: dict[str, Tensor] = {}

    def storage(key: Any) -> Tensor:
        kind, name, count = _storage_key(key)
        if name not in stored:
            stored[name] = _numbers(_stored(archive, f"{root}data/{name}"), kind, count)
        return stored[name]

    return _Rebuild(storage).value(read_pickle(io.BytesIO(_stored(archive, f"{root}data.pkl"))))


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:  # torch never compresses; a bomb would
        raise PickleFault(f"{name} is compressed")
    return archive.read(entry)


def _load_torch_stream(stream: BinaryIO) -> Any:
    """The format before torch 1.6: five pickles, then the numbers of every storage in the order of their keys."""
    if read_pickle(stream) != TORCH_PROTOCOL:
        raise PickleFault("an unknown version of torch's old format")
    if not read_pickle(stream).get("little_endian", True):
        raise PosecliError("written on a big-endian machine; save it again on a little-endian one")
    value, keys = read_pickle(stream), read_pickle(stream)
    kinds = {name: (kind, count) for kind, name, count in map(_storage_key, _references(value, set()))}
    stored: dict[str, Tensor] = {}
    for key in keys:
        kind, expected = kinds[key]
        count = int.from_bytes(stream.read(8), "little")
        if count != expected:
            raise PickleFault(f"storage {key} has {count} numbers instead of {expected}")
        stored[key] = _numbers(stream.read(count * kind.itemsize), kind, count)
    return _Rebuild(lambda key: stored[_storage_key(key)[1]]).value(value)


def _references(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    parts: list[Any] = []
    if isinstance(value, Reference):
        yield value.key
    elif isinstance(value, Record):
        parts = [value.arguments, value.state, value.items, value.elements]
    elif isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    for part in parts:
        yield from _references(part, seen)


def _storage_key(key: Any) -> tuple[torch.dtype, str, int]:
    """The number type, name and length in torch's reference ('storage', type, name, device, length, ...)."""
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage" or not isinstance(key[1], Global):
        raise PickleFault("a reference that is no tensor storage")
    if key[1].name not in STORAGE_TYPES:
        raise PickleFault(f"storages of type {key[1].name} are not read")
    return STORAGE_TYPES[key[1].name], str(key[2]), int(key[4])


def _numbers(content: bytes, kind: torch.dtype, count: int) -> Tensor:
    if len(content) < count * kind.itemsize:
        raise PickleFault(f"a storage ends early: {len(content)} of {count * kind.itemsize} bytes")
    if count == 0:
        return torch.empty(0, dtype=kind)
    return torch.frombuffer(bytearray(content), dtype=kind, count=count)


def _array_of_npy(stream: BinaryIO) -> Array:
    version = np.lib.format.read_magic(stream)
    read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    if version[0] not in read_header:
        raise PickleFault(f"version {version} of the format is not read")
    start = stream.tell()
    _, _, kind = read_header[version[0]](stream)
    if kind.hasobject:
        value = _Rebuild().value(read_pickle(stream))
        if not isinstance(value, np.ndarray):
            raise PickleFault("the pickle in it is no array")
        return value
    stream.seek(start - np.lib.format.MAGIC_LEN)
    plain: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return plain


# --- from records to values -----------------------------------------------------------------------------------------


class _Rebuild:
    """Turns the records of known data into data; all others stay records. Shared objects stay shared."""

    def __init__(self, storage: Storages | None = None) -> None:
        self.storage = storage
        self.done: dict[int, Any] = {}
        self.alive: list[Any] = []  # so that no id is given twice

    def value(self, raw: Any) -> Any:
        if isinstance(raw, str | bytes | int | float | Global | None):
            return raw
        if id(raw) not in self.done:
            self.alive.append(raw)
            self.done[id(raw)] = self._new(raw)
        return self.done[id(raw)]

    def _new(self, raw: Any) -> Any:
        if isinstance(raw, list):
            values: list[Any] = []
            self.done[id(raw)] = values  # before its elements, which may hold it
            values.extend(self.value(part) for part in raw)
            return values
        if isinstance(raw, dict):
            fields: dict[Any, Any] = {}
            self.done[id(raw)] = fields
            fields.update((self.value(key), self.value(part)) for key, part in raw.items())
            return fields
        if isinstance(raw, tuple | set | frozenset):
            return type(raw)(self.value(part) for part in raw)
        if isinstance(raw, Reference):
            return Record("persistent", (self.value(raw.key),)) if self.storage is None else self.storage(raw.key)
        return self._of_record(raw) if isinstance(raw, Record) else raw

    def _of_record(self, raw: Record) -> Any:
        _refuse_harm(raw.name)
        name = raw.name.replace("numpy._core.", "numpy.core.")
        if name in KNOWN:
            record = Record(name, self.value(raw.arguments), self.value(raw.state))
            record.items = [(self.value(key), self.value(part)) for key, part in raw.items]
            return KNOWN[name](record)
        record = Record(name)
        self.done[id(raw)] = record
        record.arguments, record.state = self.value(raw.arguments), self.value(raw.state)
        record.items = [(self.value(key), self.value(part)) for key, part in raw.items]
        record.elements = [self.value(part) for part in raw.elements]
        return record


def _refuse_harm(name: str) -> None:
    """Nothing is ever called; a file that asks for such a call is an attack all the same, and the user should know."""
    if HARMFUL.fullmatch(name):
        raise PosecliError(
            f"asks to call {name} when opened, as no data file does: refused, and nothing of it was run; do not use it"
        )


def _ordered(record: Record) -> dict[Any, Any]:
    return {**dict(record.arguments[0] if record.arguments else {}), **dict(record.items)}


def _bytes(record: Record) -> bytes:
    """What `bytes()`, `bytes(content)` or `codecs.encode(text, "latin-1")` would make."""
    if not record.arguments:
        return b""
    if isinstance(record.arguments[0], bytes):
        return record.arguments[0]
    text, encoding = record.arguments
    if encoding not in {"latin1", "latin-1"}:
        raise PickleFault(f"bytes written as {encoding} text")
    return str(text).encode("latin-1")


def _tensor(record: Record) -> Tensor:
    storage, offset, size, stride = record.arguments[:4]
    if not isinstance(storage, Tensor):
        raise PickleFault("a tensor without numbers")
    return torch.as_strided(storage, size, stride, offset)  # raises when it would reach beyond the storage


def _typed_tensor(record: Record) -> Any:
    """torch._tensor._rebuild_from_type_v2(function, type, arguments, state): a tensor or parameter with attributes."""
    function, arguments = record.arguments[0], record.arguments[2]
    if not isinstance(function, Global) or function.name not in TENSORS:
        return record
    return TENSORS[function.name](Record(function.name, arguments))


def _parameter(record: Record) -> Any:
    return record.arguments[0]


_TYPE_CODE = re.compile(r"[<>=|]?(?:[biufcO?]|[SUV](?=\d))\d{0,9}")


def _array_type(record: Record) -> np.dtype[Any]:
    code = record.arguments[0]
    if not isinstance(code, str) or not _TYPE_CODE.fullmatch(code):
        raise PickleFault(f"arrays of type {code!r} are not read")
    state: tuple[Any, ...] = tuple(record.state or ())
    if len(state) > 4 and state[3] is not None:  # names and fields of a structured array
        names, fields = state[3], state[4]
        formats, offsets = zip(*(fields[name][:2] for name in names), strict=True)
        layout: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": state[5]}
        structured: np.dtype[Any] = np.dtype(layout)
        return structured
    if len(state) > 2 and state[2] is not None:
        raise PickleFault("arrays of arrays are not read")
    kind: np.dtype[Any] = np.dtype(code)
    return kind.newbyteorder(state[1]) if len(state) > 1 and state[1] in ("<", ">") else kind


def _array(record: Record) -> Array:
    if record.state is None:
        raise PickleFault("an array without content")
    _, shape, kind, fortran, content = record.state
    return _shaped(content, kind, shape, "F" if fortran else "C")


def _array_of_buffer(record: Record) -> Array:
    content, kind, shape, order = record.arguments
    return _shaped(content, kind, shape, order)


def _shaped(content: Any, kind: Any, shape: Any, order: Any) -> Array:
    if not isinstance(kind, np.dtype) or order not in ("C", "F"):
        raise PickleFault("an array without a type")
    if kind.hasobject:
        flat = np.empty(len(content), dtype=object)
        for position, part in enumerate(content):  # one at a time: a list of arrays would be taken for a matrix
            flat[position] = part
        return flat.reshape(shape, order=order)
    content = content.encode("latin-1") if isinstance(content, str) else bytes(content)
    if len(content) != math.prod(shape) * kind.itemsize:
        raise PickleFault(f"an array of shape {shape} with {len(content)} bytes")
    return np.frombuffer(content, dtype=kind).reshape(shape, order=order).copy(order=order)


def _scalar(record: Record) -> Any:
    kind, content = record.arguments
    if not isinstance(kind, np.dtype) or kind.hasobject:
        raise PickleFault("a number without a type")
    content = content.encode("latin-1") if isinstance(content, str) else content
    return np.frombuffer(content, dtype=kind)[0]


TENSORS: dict[str, Callable[[Record], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
KNOWN: dict[str, Callable[[Record], Any]] = {
    **TENSORS,
    "torch._tensor._rebuild_from_type_v2": _typed_tensor,
    "torch.Size": lambda record: tuple(record.arguments[0]),
    "torch.device": lambda record: str(record.arguments[0]),
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _array_of_buffer,
    "numpy.dtype": _array_type,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _ordered,
    "collections.defaultdict": lambda record: dict(record.items),
    "builtins.dict": _ordered,
    "builtins.list": lambda record: list(record.arguments[0]),
    "builtins.tuple": lambda record: tuple(record.arguments[0]),
    "builtins.set": lambda record: set(record.arguments[0]),
    "builtins.frozenset": lambda record: frozenset(record.arguments[0]),
    "builtins.bytearray": lambda record: bytearray(_bytes(record)),
    "builtins.complex": lambda record: complex(*record.arguments),
    "builtins.bytes": _bytes,
    "_codecs.encode": _bytes,
}
