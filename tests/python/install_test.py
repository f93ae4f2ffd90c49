"""`pip install .` from the checkout, without network, into a fresh environment."""
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]


class Install(unittest.TestCase):
    def test_pip_installs_from_the_checkout_without_network(self):
        with tempfile.TemporaryDirectory(prefix="waveq-venv-") as folder:
            subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", folder], check=True)
            env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
            # No index, no proxy, and the compiler cache of the build under test.
            env.update(PIP_NO_INDEX="1", PIP_DISABLE_PIP_VERSION_CHECK="1",
                       WAVEQ_CMAKE_ARGS="-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
            python = Path(folder, "bin/python")
            done = subprocess.run([str(python), "-m", "pip", "install", str(SOURCE)], env=env, capture_output=True, text=True,
                                  check=False)
            self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
            program = "import waveq; print(waveq.__file__, waveq.__version__, len(waveq.targets()) > 0)"
            out = subprocess.run([str(python), "-c", program], env=env, cwd=folder, capture_output=True, text=True,
                                 check=True).stdout
            self.assertTrue(out.startswith(folder), out)
            site = Path(out.split()[0]).parent
            self.assertTrue((site / "py.typed").exists() and (site / "_waveq.pyi").exists())
            listed = subprocess.run([str(python), "-m", "pip", "show", "-f", "waveq"], env=env, capture_output=True, text=True,
                                    check=True).stdout
            self.assertIn("waveq/__init__.py", listed)


if __name__ == "__main__":
    if subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode:
        print("SKIPPED: python3-venv is not installed")
        sys.exit(77)
    unittest.main(verbosity=2)
