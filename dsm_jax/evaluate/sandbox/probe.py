"""What the machine gives the sandbox: every layer, and why one is missing. Found by starting a server, as a program would."""

from contextlib import suppress
from dataclasses import dataclass

from dsm_jax.errors import UserError
from dsm_jax.evaluate.sandbox import bubblewrap
from dsm_jax.evaluate.sandbox.confinement import LAYERS, is_enough
from dsm_jax.evaluate.sandbox.worker import launch, not_isolated


@dataclass(frozen=True)
class SandboxReport:
    """missing: layer -> why it is missing, "" where it is there (confinement.LAYERS says what each does).

    bubblewrap: whether programs run in it, since the server's own layers are not enough.
    """

    missing: dict[str, str]
    bubblewrap: bool

    @property
    def isolated(self) -> bool:
        """Whether run_python runs programs here."""
        return is_enough(self.missing)

    def __str__(self) -> str:
        rows = [f"{layer:10} {self._state(layer):24} {LAYERS[layer]}" for layer in LAYERS]
        end = "programs run isolated" + (", in bubblewrap" if self.bubblewrap else "")
        return "\n".join([*rows, end if self.isolated else f"error: {not_isolated(self.missing)}"])

    def _state(self, layer: str) -> str:
        return f"missing: {self.missing[layer]}" if self.missing[layer] else "yes"


def probe() -> SandboxReport:
    """Tries every layer. Raises UserError where no server starts at all."""
    report = _report(with_bubblewrap=False)
    if report.isolated or not bubblewrap.is_installed():
        return report
    with suppress(UserError):  # bubblewrap may not do it either
        return _report(with_bubblewrap=True)
    return report


def _report(*, with_bubblewrap: bool) -> SandboxReport:
    worker = launch(with_bubblewrap=with_bubblewrap)
    worker.close()
    return SandboxReport(worker.missing, with_bubblewrap)
