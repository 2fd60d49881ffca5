"""Images that somebody sends: files and zip archives put where nothing of them can do harm."""

from __future__ import annotations

import re
import secrets
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from convsmith.data.archive import DAMAGE
from convsmith.errors import DataError, ResourceError, UsageError
from convsmith.runs import files
from convsmith.runs.naming import slug
from convsmith.studio.missing import NotFound
from convsmith.studio.roots import PICKLES

FOLDER = "datasets"
MOST_FILES = 500_000
MOST_DEPTH = 12
#: An archive whose content is so many times larger than itself is a bomb; JPEG files hardly shrink at all, drawings some twenty times.
MOST_RATIO = 200
STALE_S = 24 * 3600
CHUNK = 1 << 20
SKIPPED = ("__MACOSX", "Thumbs.db", "desktop.ini")


class Uploads:
    """Uploads below ``root/datasets``; one that is not finished waits in a hidden folder and is forgotten after a day."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = root / FOLDER, limit_bytes
        self._bytes: dict[str, int] = {}

    def begin(self) -> str:
        """Return the number of a new upload."""
        self._forget()
        id = secrets.token_hex(8)
        with files.writing(self.folder):
            self._place(id).mkdir(parents=True)
        return id

    def place(self, id: str) -> Path:
        """Return the folder of an upload; `NotFound` when there is none of that number."""
        if not re.fullmatch(r"[0-9a-f]{16}", id) or not self._place(id).is_dir():
            raise NotFound(f"there is no upload {id!r}; it was finished, given up or forgotten")
        return self._place(id)

    def add(self, id: str, name: str, content: IO[bytes]) -> bool:
        """Keep one file under its relative name; False for one that systems leave in folders and that is no image.

        Raises: UsageError for a name that leads out, a pickle, or more than is allowed.
        """
        place = self.place(id)
        parts = relative(name)
        if parts is None:
            return False
        self._bytes[id] = self._held(id) + self._write(place, place.joinpath(*parts), content, self.limit_bytes - self._held(id))
        return True

    def _held(self, id: str) -> int:
        if id not in self._bytes:  # another server began it
            self._bytes[id] = size_of(self._place(id))
        return self._bytes[id]

    def unpack(self, id: str, archive: Path) -> int:
        """Unpack a zip archive into an upload and return how many files that made.

        Raises: DataError when it is damaged or no zip archive; UsageError when it is larger than allowed, or a bomb.
        """
        place = self.place(id)
        try:
            with zipfile.ZipFile(archive) as found:
                return self._unpack(place, found, archive.stat().st_size)
        except DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(f"this is no whole zip archive ({error}); pack the folder again, or choose the folder itself") from None

    def _unpack(self, place: Path, archive: zipfile.ZipFile, packed_bytes: int) -> int:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) > MOST_FILES:
            raise UsageError(f"the archive holds {len(members):,} files; at most {MOST_FILES:,} are taken")
        left, count = min(self.limit_bytes, MOST_RATIO * packed_bytes + CHUNK) - size_of(place), 0
        for member in members:
            if (member.external_attr >> 16) & 0o170000 not in (0, 0o100000):
                continue  # a link or device, which an image is not
            parts = relative(member.filename)
            if parts is None:
                continue
            with archive.open(member) as content:
                left -= self._write(place, place.joinpath(*parts), content, left)
            count += 1
        if not count:
            raise DataError("the archive holds no file that could be an image")
        return count

    def _write(self, place: Path, path: Path, content: IO[bytes], left: int) -> int:
        with files.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.parent.resolve().is_relative_to(place.resolve()):
                raise UsageError(f"{str(path)!r} leads out of the upload")
            if path.is_dir():
                raise UsageError(f"{path.name!r} is the name of a file and of a folder")
            written = 0
            with path.open("wb") as file:
                while part := content.read(CHUNK):
                    written += len(part)
                    if written > left:
                        raise UsageError(
                            f"this is more than may be sent: {self.limit_bytes / 1e6:,.0f} MB in all, and {MOST_RATIO} times the size of "
                            "an archive. Put larger images on the server and give their path, or start the studio with a larger --upload-mb"
                        )
                    file.write(part)
        return written

    def finish(self, id: str, name: str) -> Path:
        """Give an upload its name and return its folder; one folder that wraps the folders of the classes is taken off.

        Raises: DataError when nothing arrived.
        """
        place = self.place(id)
        if not any(path.is_file() for path in place.rglob("*")):
            raise DataError("no file arrived; choose a folder with one folder of images for each class, or a zip archive of one")
        inner = _unwrapped(place)
        with files.writing(self.folder):
            for count in range(1, 10_000):
                target = self.folder / (slug(name) if count == 1 else f"{slug(name)}-{count}")
                if not target.exists():
                    inner.rename(target)
                    break
            else:
                raise ResourceError(f"{self.folder} already holds 9,999 folders named {slug(name)}")
        shutil.rmtree(place, ignore_errors=True)
        self._bytes.pop(id, None)
        return target

    def give_up(self, id: str) -> None:
        """Forget an upload."""
        shutil.rmtree(self.place(id), ignore_errors=True)
        self._bytes.pop(id, None)

    def finished(self) -> list[Path]:
        """Return the folders of what was uploaded."""
        return sorted(path for path in self.folder.glob("*") if path.is_dir() and not path.name.startswith("."))

    def _place(self, id: str) -> Path:
        return self.folder / f".arriving-{id}"

    def _forget(self) -> None:
        for path in self.folder.glob(".arriving-*"):
            if time.time() - path.stat().st_mtime > STALE_S:
                shutil.rmtree(path, ignore_errors=True)


def relative(name: str) -> tuple[str, ...] | None:
    """Return the parts of a relative name; None for hidden files and what systems leave in folders.

    Raises: UsageError for a name that leads out of its folder, or is no name.
    """
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    told = f"{name[:200]!r} is no name for a file of an upload"
    if not parts or name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in parts:
        raise UsageError(f"{told}: it leads out of it")
    if len(parts) > MOST_DEPTH or any(len(part.encode("utf-8", "replace")) > 240 for part in parts):
        raise UsageError(f"{told}: it is too long or too deep")
    if any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in name):
        raise UsageError(f"{told}: it holds characters that are no text")
    if parts[-1].lower().endswith(PICKLES):
        raise UsageError(f"{told}: a pickle can run code when it is read")
    return None if any(part.startswith(".") or part in SKIPPED for part in parts) else parts


def size_of(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _unwrapped(place: Path) -> Path:
    inside = list(place.iterdir())
    if len(inside) == 1 and inside[0].is_dir() and any(path.is_dir() for path in inside[0].iterdir()):
        return inside[0]
    return place
