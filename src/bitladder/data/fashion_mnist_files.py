"""Where the four files of Fashion-MNIST come from."""

import hashlib
import http.client
import shutil
import tempfile
import urllib.request
from pathlib import Path

from bitladder.durable import move_into_place
from bitladder.errors import UserError

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DOWNLOAD_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# Plain HTTP: the checksums are what makes the download trustworthy.
SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
    ),
}
_HOW_TO_GET = (
    "install Debian's package dataset-fashion-mnist (apt install dataset-fashion-mnist), or write"
    " data.root=FOLDER for a folder with the four IDX files, or data.download=true"
)


def find_files(root: str | Path | None, download: bool) -> list[Path]:
    """The four files, in the order of :data:`SHA256`.

    The first of these that exists is the source, and must then be complete: ``root``, the folder
    of Debian's package, the cache of an earlier download. Only if there is none, and ``download``
    is true, something is fetched.

    Args:
        root: A folder that the user names.
        download: Whether missing files may be fetched into the cache.

    Raises:
        UserError: If a file is missing or not what it should be, or the download fails.
    """
    if root is not None:
        return _files_in(Path(root).expanduser(), "data.root")
    if DEBIAN_FOLDER.is_dir():
        return _files_in(DEBIAN_FOLDER, "Debian's package dataset-fashion-mnist")
    folder = Path.home() / ".cache" / "bitladder" / "fashion-mnist"
    missing = [name for name in SHA256 if not (folder / name).is_file()]
    if missing and not download:
        raise UserError(f"Fashion-MNIST is not on this machine: {_HOW_TO_GET}")
    for name in missing:
        _download(name, folder)
    for name, expected in SHA256.items():
        if _sha256(folder / name) != expected:
            raise UserError(
                f"{folder / name}: its sha256 is wrong; delete it and download it again"
            )
    return [folder / name for name in SHA256]


def _files_in(folder: Path, source: str) -> list[Path]:
    files = []
    for name in SHA256:
        choices = [folder / name, folder / name.removesuffix(".gz")]
        found = next((path for path in choices if path.is_file()), None)
        if found is None:
            raise UserError(
                f"{source}: {choices[0]} is missing, with or without .gz (the four files are"
                f" {', '.join(SHA256)}): {_HOW_TO_GET}"
            )
        files.append(found)
    return files


def _download(name: str, folder: Path) -> None:
    url = DOWNLOAD_URL + name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as temporary:
            partial = Path(temporary) / name
            with urllib.request.urlopen(url, timeout=60) as response, partial.open("wb") as file:
                shutil.copyfileobj(response, file)
            if _sha256(partial) != SHA256[name]:
                raise UserError(
                    f"{url}: the download is incomplete or not the published file (its sha256 is"
                    " wrong)"
                )
            move_into_place(partial, folder / name)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"{url}: the download failed ({error}): {_HOW_TO_GET}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
