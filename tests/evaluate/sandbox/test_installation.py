"""Where the server finds this package."""

import os
import subprocess
import sys


def test_a_package_that_no_folder_of_the_path_holds(tmp_path):
    """As in an editable installation: an importer of its own finds it."""
    code = "from dsm_jax.evaluate import run_python; print(run_python('print(1 + 1)').stdout)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "2", done.stderr
