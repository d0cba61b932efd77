"""The table of ResNet-152 (shapes, parameters, multiply-adds): from its spec, and from torchinfo.

    python benchmarks/inference.py [repetitions]

Both sides run in this process with everything imported. Ours reads the files of the spec and of its
blocks anew every time; torchinfo gets a model that stands ready, and runs it.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import reference  # noqa: E402 - stands in the folder of the tests
from measure import Comparison, interleaved, report  # noqa: E402 - sorted with the line above

from resnet_spec.ir.summary import summarize  # noqa: E402
from resnet_spec.language.library import Library  # noqa: E402
from resnet_spec.language.load import load  # noqa: E402
from resnet_spec.lower import lower  # noqa: E402

PARAMETERS = 60_192_808
OURS, THEIRS = "load, lower, summarize", "torchinfo.summary"


def main(repetitions: int) -> None:
    import torchinfo

    model = reference.torchvision().models.resnet152()

    def ours() -> object:
        return summarize(lower(load("resnet152", Library())))

    def theirs() -> torchinfo.ModelStatistics:
        return torchinfo.summary(model, input_size=(1, 3, 224, 224), verbose=0)

    if theirs().total_params != PARAMETERS:
        sys.exit("torchinfo counts other parameters than the paper's network has")
    medians = interleaved({OURS: ours, THEIRS: theirs}, repetitions)
    print(report(medians, [Comparison(OURS, THEIRS, 1 / 30)]))
    print(f"{medians[THEIRS] / medians[OURS]:.1f} times as fast (target: at least 30)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
