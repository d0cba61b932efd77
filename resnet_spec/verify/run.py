"""One network through all measurements: compiled in memory, run by its runners, compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from resnet_spec.codegen.generate import generate
from resnet_spec.diagnostics import Diagnostic
from resnet_spec.ir import Network
from resnet_spec.ir.evaluate import Mismatch
from resnet_spec.verify.frameworks import FRAMEWORKS
from resnet_spec.verify.locate import diagnostics, misfit
from resnet_spec.verify.measure import Measurements, Row
from resnet_spec.verify.plan import plan_of
from resnet_spec.verify.session import RunnerError, Session


def sources_of(network: Network, runners: Iterable[str] = ("torch", "keras")) -> dict[str, str]:
    """The generated text of each backend that some runners run."""
    backends = dict.fromkeys(FRAMEWORKS[each].backend for each in runners)
    made = generate(network, tuple(backends))
    return {path.parts[0]: text for path, text in made.items()}


class Verification:
    """A network in a folder of its own; `sources` are what the backends write, unless given.

    After `run`, `rows` holds the measurements and `found` what is wrong.
    """

    def __init__(
        self,
        network: Network,
        session: Session,
        folder: Path,
        precision: str = "float64",
        sources: Mapping[str, str] | None = None,
    ) -> None:
        self.network, self.session, self.folder = network, session, folder
        self.plan, self.sites = plan_of(network, precision)
        self.rows: list[Row] = []
        self.found: list[Diagnostic] = []
        texts = sources or sources_of(network, session)
        folder.mkdir()
        self.plan.write(folder)
        for backend, text in texts.items():
            (folder / f"{backend}.py").write_text(text, encoding="utf-8")

    def run(self) -> Iterator[Row]:
        """Every measurement as it is done."""
        measurements = Measurements(self.plan, self.session, self.folder, self.network)
        try:
            for row in measurements.all():
                self.rows.append(row)
                yield row
            self.found = diagnostics(self.rows, measurements, self.sites)
        except Mismatch as error:
            self.found = [misfit(error, self.sites)]
        except RunnerError as error:
            span = self.network.root.definition.span
            self.found = [Diagnostic("RS802", f"{self.plan.name}: {error}", span)]
