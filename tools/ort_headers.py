"""Fetch the ONNX Runtime C headers from Debian's development package, without installing anything.

    python tools/ort_headers.py DIRECTORY

prints the include directory. CMake calls this when no headers are found on the machine. No package
of the Python index carries these headers; Debian does, from the release after bookworm on, so an
older release takes the package from there: through the mirror that the machine's apt already uses,
with package lists and cache of our own in DIRECTORY, and only unpacked there.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys

SUITE = "trixie"
PACKAGE = "libonnxruntime-dev"
HEADER = "onnxruntime_c_api.h"
KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class HeadersError(RuntimeError):
    """The headers cannot be had this way; the message says why."""


def include_directory(directory: pathlib.Path) -> pathlib.Path:
    """The directory below `directory` that holds the headers, fetching them on the first call.

    Raises HeadersError when this is not Debian, or the archive cannot be reached or is not what we
    expect.
    """
    unpacked = directory / "package"
    if not (found := _find_header(unpacked)):
        _fetch(directory, unpacked)
        found = _find_header(unpacked)
    if not found:
        raise HeadersError(f"{PACKAGE} of Debian {SUITE} holds no {HEADER}")
    return found


def _find_header(root: pathlib.Path) -> pathlib.Path | None:
    return next((header.parent for header in sorted(root.rglob(HEADER))), None)


def _fetch(directory: pathlib.Path, unpacked: pathlib.Path) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise HeadersError(f"no {tool} here: this is not a Debian system")
    if not KEYRING.exists():
        raise HeadersError(f"{KEYRING} is missing (package debian-archive-keyring)")
    apt = directory / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    sources = apt / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_debian_mirror()} {SUITE} main\n")
    settings = {
        "Dir::Etc::sourcelist": sources.resolve(),
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": (apt / "lists").resolve(),
        "Dir::Cache": (apt / "cache").resolve(),
        # Downloads as the calling user: apt's own may not write below a private directory.
        "APT::Sandbox::User": "",
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    _run(["apt-get", *options, "--quiet", "--error-on=any", "update"])
    _run(["apt-get", *options, "--quiet", "download", PACKAGE], cwd=apt)
    archives = sorted(apt.glob(f"{PACKAGE}_*.deb"))
    if not archives:
        raise HeadersError(f"apt-get downloaded no {PACKAGE} package")
    shutil.rmtree(unpacked, ignore_errors=True)
    _run(["dpkg-deb", "-x", str(archives[-1]), str(unpacked)])
    shutil.rmtree(apt)


def _debian_mirror() -> str:
    """The archive root that apt is configured with; printing addresses fetches nothing."""
    printed = _run(["apt-get", "--print-uris", "update"])
    for root, suite in re.findall(r"'(\S+)/dists/([^/']+)/InRelease'", printed):
        if not re.search(r"security|updates|backports|proposed", f"{root} {suite}"):
            return root
    raise HeadersError("apt's configuration names no Debian archive")


def _run(command: list[str], cwd: pathlib.Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise HeadersError(f"{command[0]} failed with status {done.returncode}: {said}")
    return done.stdout


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(include_directory(pathlib.Path(arguments[0])))
    except HeadersError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
