"""PEP 517 backend: a wheel from CMake's install tree, with the standard library alone.

pip's build isolation hides Debian's setuptools and would fetch another one; this needs CMake, Ninja (or make) and a
compiler on the PATH, and Debian's packages named in setup.sh. WAVEQ_CMAKE_ARGS adds arguments for CMake,
WAVEQ_BUILD_DIR keeps the build for the next time.
"""
import base64
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
TAG_PLATFORM = sysconfig.get_platform().replace("-", "_").replace(".", "_")
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}-cp{sys.version_info[0]}{sys.version_info[1]}-{TAG_PLATFORM}"


def _version():
    text = (SOURCE / "graph/include/waveq/graph/version.h").read_text()
    return re.search(r'kVersion.*"([^"]+)"', text).group(1)


def _metadata():
    return (f"Metadata-Version: 2.1\nName: waveq\nVersion: {_version()}\n"
            "Summary: turns float ONNX networks into integer ones for microcontrollers\n"
            "Requires-Python: >=3.9\nRequires-Dist: numpy\n")


def _install(prefix, build):
    """The package as CMake installs it."""
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    commands = [
        ["cmake", "-S", SOURCE, "-B", build, *generator, "-DCMAKE_BUILD_TYPE=Release", "-DWAVEQ_PYTHON=ON",
         "-DWAVEQ_TESTS=OFF", f"-DPython_EXECUTABLE={sys.executable}",
         *shlex.split(os.environ.get("WAVEQ_CMAKE_ARGS", ""))],
        ["cmake", "--build", build, "--target", "_waveq", "--parallel", str(len(os.sched_getaffinity(0)))],
        ["cmake", "--install", build, "--component", "python", "--prefix", prefix, "--strip"],
    ]
    if Path(build, "CMakeCache.txt").exists():
        commands.pop(0)  # a build folder of one's own (WAVEQ_BUILD_DIR) keeps its settings
    for command in commands:
        subprocess.run([str(c) for c in command], check=True)


def _record_line(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    info = f"waveq-{_version()}.dist-info"
    name = f"waveq-{_version()}-{TAG}.whl"
    with tempfile.TemporaryDirectory(prefix="waveq-wheel-") as scratch:
        tree = Path(scratch, "tree")
        _install(tree, os.environ.get("WAVEQ_BUILD_DIR") or Path(scratch, "build"))
        files = {str(p.relative_to(tree)): p.read_bytes() for p in sorted(tree.rglob("*")) if p.is_file()}
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = (f"Wheel-Version: 1.0\nGenerator: waveq\nRoot-Is-Purelib: false\nTag: {TAG}\n").encode()
    record = "".join(_record_line(n, d) for n, d in files.items()) + f"{info}/RECORD,,\n"
    files[f"{info}/RECORD"] = record.encode()
    with zipfile.ZipFile(Path(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            wheel.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return name


def build_sdist(sdist_directory, config_settings=None):
    """What git tracks, as a tar file."""
    base = f"waveq-{_version()}"
    name = f"{base}.tar.gz"
    subprocess.run(["git", "-C", str(SOURCE), "archive", f"--prefix={base}/", "-o", str(Path(sdist_directory, name)), "HEAD"],
                   check=True)
    return name
