"""What the tests of `resnet-spec weights` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_spec import cli


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Callable[..., tuple[int, str]]:
    """`resnet-spec weights` in a folder with the module's `SPEC`: its code and its words."""
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(request.module.SPEC)

    def call(*arguments: str) -> tuple[int, str]:
        code = cli.main(["weights", *arguments])
        return code, "".join(capsys.readouterr())

    return call
