"""The installed package as others see it: find_package, pkg-config, a moved prefix, the .deb, `pip install`.

The build under test is named by WAVEQ_BUILD_DIR; what is not built there (the Python module) is skipped.
"""
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("WAVEQ_BUILD_DIR", SOURCE / "build"))
CONSUMER = Path(__file__).resolve().parent / "consumer"


def run(*command, **options):
    command = [str(c) for c in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"$ {shlex.join(command)}\n[exit {done.returncode}]\n{done.stdout[-4000:]}")
    return done.stdout


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="waveq-package-")
        cls.addClassCleanup(cls.scratch.cleanup)
        cls.root = Path(cls.scratch.name)
        run("cmake", "--install", BUILD, "--prefix", cls.root / "first", "--strip")
        cls.prefix = cls.root / "moved"  # an installed tree may be moved
        (cls.root / "first").rename(cls.prefix)
        cls.lib = next(cls.prefix.rglob("libwaveq.so")).parent

    def check_consumer(self, program):
        folder = Path(tempfile.mkdtemp(dir=self.root))
        out = run(program, folder, env={**os.environ, "LD_LIBRARY_PATH": str(self.lib)})
        self.assertRegex(out, r"waveq 0\.1\.\d+: \d+ nodes, overflow free 1, mismatches 0")
        self.assertTrue((folder / "out/network.onnx").exists())

    def test_a_project_finds_it_with_cmake(self):
        build = self.root / "by-cmake"
        run("cmake", "-S", CONSUMER, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DCMAKE_BUILD_TYPE=Debug")
        run("cmake", "--build", build)
        self.check_consumer(build / "consumer")

    def test_a_project_finds_it_with_pkg_config(self):
        if not shutil.which("pkg-config"):
            self.skipTest("pkg-config is not installed")
        env = {**os.environ, "PKG_CONFIG_PATH": str(self.lib / "pkgconfig")}
        flags = shlex.split(run("pkg-config", "--cflags", "--libs", "waveq", env=env))
        program = self.root / "by-pkg-config"
        run("c++", "-std=c++20", CONSUMER / "main.cpp", "-o", program, *flags)
        self.check_consumer(program)

    def test_only_public_headers_are_installed(self):
        ours = {p.relative_to(self.prefix / "include") for p in (self.prefix / "include").rglob("*.h")}
        public = {p.relative_to(layer / "include") for layer in SOURCE.iterdir() if (layer / "include").is_dir()
                  for p in (layer / "include").rglob("*.h")}
        self.assertEqual(ours, public)
        self.assertFalse([p for p in ours if p.parts[0] != "waveq"])

    def test_the_program_runs_from_the_prefix(self):
        self.assertIn("Example", run(self.prefix / "bin/waveq", "--help"))

    def test_public_headers_stand_alone_and_show_no_protobuf(self):
        text = "".join(p.read_text() for p in (self.prefix / "include").rglob("*.h"))
        for private in ("onnx.pb.h", "google/protobuf", "Eigen/", "nlohmann/", "toml++"):
            self.assertNotIn(private, text)


class Deb(unittest.TestCase):
    def test_the_package_holds_all_and_names_what_it_needs(self):
        for tool in ("dpkg-deb", "dpkg-shlibdeps"):
            if not shutil.which(tool):
                self.skipTest(f"{tool} is not installed")
        with tempfile.TemporaryDirectory(prefix="waveq-deb-") as folder:
            run("cpack", "-G", "DEB", "-B", folder, "--config", BUILD / "CPackConfig.cmake")
            deb, = Path(folder).glob("*.deb")
            needs = run("dpkg-deb", "-f", deb, "Depends")
            for library in ("libc6", "libprotobuf32", "libzip4", "libfmt9", "libssl3"):
                self.assertIn(library, needs)
            root = Path(folder, "root")
            run("dpkg-deb", "-x", deb, root)
            self.assertIn("quantize", run(root / "usr/bin/waveq", "--help"))
            self.assertFalse(list(root.rglob("*python*")), "the .deb is the C++ package")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
