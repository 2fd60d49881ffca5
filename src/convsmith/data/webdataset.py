"""WebDataset shards: tar files in which members of one stem are one sample, such as 000017.jpg and 000017.cls.

References: the WebDataset format, github.com/webdataset/webdataset, README: "a dataset is a collection of tar archives".
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from convsmith.data.dataset import Problem
from convsmith.data.decode import EXTENSIONS
from convsmith.data.folder import Entry, Listing, in_order
from convsmith.data.pack import packed_image
from convsmith.data.packed import Extent, raw_bytes
from convsmith.data.scan import Progress
from convsmith.data.source import FREE, PART_NAMES, PARTS, Source
from convsmith.errors import DataError, ResourceError, UsageError

NAMES: Final = "classes.txt"
PICTURES: Final = frozenset(extension for extensions in EXTENSIONS.values() for extension in extensions)
LABELS: Final = (".cls", ".json")


def is_shard(path: Path) -> bool:
    """Tell an uncompressed tar whose first sample has a label beside its picture."""
    try:
        with tarfile.open(path, "r:") as archive:
            for _, member in zip(range(20), archive, strict=False):
                if member.isreg() and PurePosixPath(member.name).suffix.lower() in LABELS:
                    return True
    except (tarfile.TarError, OSError, EOFError):
        pass
    return False


def read_shards(paths: Sequence[Path]) -> Listing:
    """List the samples of shards without unpacking or copying them. The part is that of a shard's name, as in ``train-000.tar``.

    Labels are whole numbers, named by ``classes.txt`` beside the shards where there is one, or texts. A sample without label or picture is
    a problem.

    Raises: DataError when a shard is damaged or none has a sample.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    names = _class_names(paths[0].parent)
    for path in paths:
        given = PART_NAMES.get(path.name.lower().replace("_", "-").partition("-")[0].partition(".")[0], FREE)
        for stem, members in _samples(path):
            picture = next((suffix for suffix in members if suffix in PICTURES), None)
            label = _label(members, names, f"{path.name}/{stem}")
            title = f"{path.name}/{stem}{picture or ''}"
            if picture is None or label is None:
                problems.append(Problem(title, "row", f"the sample has no {'picture' if picture is None else 'label (.cls or .json)'}"))
            else:
                entries.append(Entry(title, members[picture], label, given))
    if not entries:
        raise DataError(f"{paths[0].name!r} has no sample with a picture and a label; expected are members such as 000.jpg and 000.cls")
    return Listing(entries, names if names is not None else in_order(entry.label for entry in entries), tuple(problems))


def _samples(path: Path) -> Iterator[tuple[str, dict[str, Extent]]]:
    """Yield stem and members (by lower-case suffix) of each sample; members of one sample stand together."""
    stem, members = "", dict[str, Extent]()
    end = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isreg():
                    continue
                if member.offset_data + member.size > end:
                    raise DataError(f"{str(path)!r} is cut off in {member.name!r}; fetch or write it again")
                place = PurePosixPath(member.name)
                first, _, suffix = place.name.partition(".")
                found = str(place.with_name(first))
                if found != stem and members:
                    yield stem, members
                    members = {}
                stem = found
                members["." + suffix.lower()] = Extent(str(path), member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{str(path)!r} is a damaged tar file ({error}); fetch or write it again") from error
    if members:
        yield stem, members


def _label(members: dict[str, Extent], names: tuple[str, ...] | None, title: str) -> str | None:
    suffix = next((suffix for suffix in LABELS if suffix in members), None)
    if suffix is None:
        return None
    try:
        text = bytes(raw_bytes(members[suffix])).decode("utf-8").strip()
        if suffix == ".json":
            fields = json.loads(text)
            text = str(fields.get("label", fields.get("cls", ""))).strip()
    except (UnicodeDecodeError, ValueError, AttributeError):
        return None
    if names is None or not text.isdigit():
        return text or None
    if int(text) >= len(names):
        raise DataError(f"{title} has the label {text}, but {NAMES} names {len(names)} classes")
    return names[int(text)]


def _class_names(folder: Path) -> tuple[str, ...] | None:
    try:
        lines = (folder / NAMES).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return tuple(line.strip() for line in lines if line.strip()) or None


def write_shards(
    source: Source,
    folder: str | Path,
    *,
    per_shard: int = 1000,
    short_side: int | None = None,
    quality: int = 90,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Path]:
    """Write tar shards with JPEGs and ``.cls`` labels, and ``classes.txt``, into a new or empty folder; return the shards.

    The order is drawn from the seed, as readers of shards shuffle only near by. Parts that the source gives name their shards.

    Raises: UsageError when the folder holds something; ResourceError when the disk is full.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{str(folder)!r} is not empty; name a new folder")
    written: list[Path] = []
    done = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NAMES).write_text("\n".join(source.classes) + "\n", encoding="utf-8")
        for given in sorted(set(source.given.tolist())):
            rows = np.random.default_rng(seed).permutation(np.flatnonzero(source.given == given))
            for number, start in enumerate(range(0, len(rows), per_shard)):
                path = folder / f"{PARTS[given] if given != FREE else 'images'}-{number:06d}.tar"
                with tarfile.open(path, "w:", format=tarfile.USTAR_FORMAT) as archive:
                    for row in rows[start : start + per_shard]:
                        _add(archive, source, int(row), short_side, quality)
                        done += 1
                        if progress:
                            progress(done, len(source))
                written.append(path)
    except OSError as error:
        raise ResourceError(f"cannot write {str(folder)!r}: {error.strerror or error}") from error
    return written


def _add(archive: tarfile.TarFile, source: Source, row: int, short_side: int | None, quality: int) -> None:
    content, _, _ = packed_image(source, row, short_side, "jpeg", quality)
    for suffix, raw in ((".jpg", content), (".cls", str(int(source.labels[row])).encode())):
        member = tarfile.TarInfo(f"{row:08d}{suffix}")
        member.size = len(raw)
        archive.addfile(member, io.BytesIO(raw))
