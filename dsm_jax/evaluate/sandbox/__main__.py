"""`python -m dsm_jax.evaluate.sandbox` prints what the machine gives the sandbox; it exits 2 where that is not enough."""

import sys

from dsm_jax.errors import UserError
from dsm_jax.evaluate.sandbox.probe import probe

try:
    report = probe()
except UserError as error:
    sys.exit(f"error: {error}")
print(report)
sys.exit(0 if report.isolated else UserError.exit_code)
