"""Fetch a file with its checksum, and the five public data sets every paper uses."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convsmith.data.dataset import Dataset
from convsmith.data.opening import open as open_dataset
from convsmith.data.scan import Progress
from convsmith.errors import DataError, ResourceError, UsageError, near

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30


@dataclass(frozen=True)
class PublicSet:
    """Where the files of a public data set are: ``(name, SHA-256)`` under one address, and what ``data.open`` is given."""

    address: str
    files: tuple[tuple[str, str], ...]
    opened: str = ""


PUBLIC: dict[str, PublicSet] = {
    # Y. LeCun, C. Cortes, C. Burges; the original host refuses downloads, this is PyTorch's mirror
    "mnist": PublicSet(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        (
            ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            ("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            ("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    # H. Xiao, K. Rasul, R. Vollgraf, 2017, arXiv:1708.07747; MIT
    "fashion-mnist": PublicSet(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            ("train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            ("train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            ("t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            ("t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
    # A. Krizhevsky, 2009
    "cifar10": PublicSet(
        "https://www.cs.toronto.edu/~kriz/",
        (("cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),),
        "cifar-10-python.tar.gz",
    ),
    "cifar100": PublicSet(
        "https://www.cs.toronto.edu/~kriz/",
        (("cifar-100-python.tar.gz", "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),),
        "cifar-100-python.tar.gz",
    ),
    # Y. Netzer et al., 2011; the 531,131 easier images of extra_32x32.mat, 1.3 GB, are read too where they are put beside these
    "svhn": PublicSet(
        "http://ufldl.stanford.edu/housenumbers/",
        (
            ("train_32x32.mat", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
            ("test_32x32.mat", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
        ),
    ),
}


def load_public(name: str, root: str | Path, *, progress: Progress | None = None, **options: Any) -> Dataset:
    """Fetch a public data set into ``root/name`` unless it is there, and open it; ``options`` go to ``data.open``.

    Raises: UsageError for an unknown name; ResourceError when it cannot be fetched; DataError for a wrong checksum.
    """
    if name not in PUBLIC:
        raise UsageError(f"there is no public data set {name!r}; known are {', '.join(PUBLIC)}.{near(name, PUBLIC)}")
    public, folder = PUBLIC[name], Path(root) / name
    for file, sha256 in public.files:
        download(public.address + file, sha256, folder / file, progress)
    return open_dataset(folder / public.opened if public.opened else folder, **options)


def download(url: str, sha256: str, into: str | Path, progress: Progress | None = None) -> Path:
    """Fetch ``url`` to the file ``into`` and return it; a file that is there with the right checksum is not fetched again.

    ``sha256``: all 64 digits, or the first 8 or more, which some publishers put into the name of the file.

    What has come so far stands in ``into`` + ``.part`` and is continued by the next call; the final name appears only when the
    checksum is right. ``progress`` is called with (bytes, total bytes or 0).

    Raises: DataError for a wrong checksum, which leaves nothing; ResourceError when the address or the disk fails.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} cannot be fetched; allowed are http:// and https:// addresses")
    if not re.fullmatch("[0-9a-fA-F]{8,64}", sha256):
        raise UsageError(f"{sha256!r} is no SHA-256; give its 64 digits or at least the first 8")
    into = Path(into)
    if into.is_file() and _sha256(into).startswith(sha256.lower()):
        return into
    part = into.with_name(into.name + ".part")
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress)
        found = _sha256(part)
        if not found.startswith(sha256.lower()):
            part.unlink()
            wrong = f"{url} has the SHA-256 {found}, expected is {sha256.lower()}"
            raise DataError(f"{wrong}; nothing was kept. Try again or get the file elsewhere")
        part.replace(into)
    except urllib.error.HTTPError as error:
        with error:
            raise ResourceError(f"{url} cannot be fetched: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        what = f"{url} cannot be fetched into {str(into.parent)!r} ({error})"
        raise ResourceError(f"{what}; the next try goes on where this stopped") from error
    return into


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is complete or longer than the file: its checksum decides
            raise
        error.close()
        return
    with answer:
        resumed = answer.status == 206 and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        done = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else 0
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(CHUNK_BYTES):
                file.write(block)
                done += len(block)
                if progress:
                    progress(done, total)
    if total and done < total:
        raise ResourceError(f"{url} broke off after {done:,} of {total:,} bytes; the next try goes on there")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
