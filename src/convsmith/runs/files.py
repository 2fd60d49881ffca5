"""Writing that either happened or did not: whole files by rename, event lines by one append.

A reader sees the old file or the new one, never a part; a full disk or a missing permission is a `ResourceError` that names the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from convsmith.errors import ResourceError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder with --out",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder with --out",
    errno.EFBIG: "the file is larger than this process may write (ulimit -f)",
    errno.EROFS: "the file system is read-only; choose another folder with --out",
    errno.EACCES: "permission denied; choose a folder you may write with --out",
    errno.EPERM: "operation not permitted; choose a folder you may write with --out",
    errno.EMFILE: "too many open files (ulimit -n)",
    errno.EIO: "the disk reports an input/output error",
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` about space or permission inside the block into a `ResourceError` that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise ResourceError(f"cannot write {path}: {_REASONS[error.errno]}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well, sync it and rename it onto ``path``.

    When the block fails, the temporary file is removed and ``path`` is as it was.
    """
    with writing(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            part.chmod(0o666 & ~_umask())
            _sync(part)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the writers' lock of ``folder``: the folder itself, so that replacing a file in it loses no other writer's word."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write the whole file atomically."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_bytes(path, (to_json(value, indent=1) + "\n").encode())


def append_line(path: Path, line: str) -> None:
    """Append one line with one ``write`` and sync it; when it does not fit, the file is cut back to what it was.

    A half line that a killed writer left at the end is closed first, so that it spoils only itself.
    """
    with writing(path):
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            end = os.fstat(handle).st_size
            torn = end > 0 and os.pread(handle, 1, end - 1) != b"\n"
            content = (("\n" if torn else "") + line + "\n").encode()
            try:
                if os.write(handle, content) != len(content):
                    raise OSError(errno.ENOSPC, "short write")
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, end)
                raise
        finally:
            os.close(handle)


def to_json(value: Any, indent: int | None = None) -> str:
    """Return strict JSON of dataclasses, arrays, paths and numbers; what is not finite becomes ``null``."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def plain(value: Any) -> Any:
    """Return ``value`` built of dict, list, str, int, finite float, bool and None only."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # an array or a NumPy scalar
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    return str(value)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
