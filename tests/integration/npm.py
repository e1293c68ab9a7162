"""What the tests need of Node.js: packages by their lock files, and test files run on them."""

import os
import shutil
import subprocess
import unittest

INSTALL_TIMEOUT_S = 180


def install(folder, work):
    """Copies a folder with a lock file to `work` and installs its packages there; skips the test where that cannot be."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise unittest.SkipTest("Node.js or npm is not installed")
    shutil.copytree(folder, work, ignore=shutil.ignore_patterns("node_modules"))
    installed = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=work, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, timeout=INSTALL_TIMEOUT_S)
    if installed.returncode != 0:
        raise unittest.SkipTest(f"npm cannot install what {folder.name} needs: {installed.stdout[-300:]}")


def run_tests(work, files, timeout_s=120, **environment):
    """Runs test files by Node's own runner; AssertionError with what it said where one fails."""
    tried = subprocess.run(["node", "--test", *map(str, files)], cwd=work, env=os.environ | environment, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=timeout_s)
    if tried.returncode != 0:
        raise AssertionError(tried.stdout)


def run_script(work, name, timeout_s=180):
    """Runs a script of package.json; AssertionError with what it said where it fails."""
    done = subprocess.run(["npm", "run", "--silent", name], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout_s)
    if done.returncode != 0:
        raise AssertionError(done.stdout)
