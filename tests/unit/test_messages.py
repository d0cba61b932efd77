"""Every folder of `cases` is a spec, mostly a wrong one, and exactly what the compiler says of it.

`spec.yaml` is checked with the case as working folder; `cmd.json` gives another command line where
that does not do. `expected.txt` holds what is printed and, on its last line, the exit code.
`pytest --update-goldens` writes it anew; read the difference as the user who will get the message.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from resnet_spec import cli

CASES = Path(__file__).parents[1] / "cases"
GOLDEN, COMMAND, SPEC = "expected.txt", "cmd.json", "spec.yaml"
NAMES = sorted(path.name for path in CASES.iterdir() if path.is_dir())


def command(case: Path) -> list[str]:
    """The command line of a case."""
    file = case / COMMAND
    if not file.is_file():
        return ["check", SPEC]
    arguments = json.loads(file.read_text(encoding="utf-8"))["arguments"]
    assert isinstance(arguments, list)
    return arguments


@pytest.mark.parametrize("name", NAMES)
def test_messages(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    update_goldens: bool,
) -> None:
    case = CASES / name
    golden = case / GOLDEN
    monkeypatch.chdir(case)
    monkeypatch.delenv("RESNET_SPEC_TRACEBACK", raising=False)
    code = cli.main(command(case))
    captured = capsys.readouterr()
    actual = f"{captured.out}{captured.err}exit {code}\n"
    assert code in (0, 1), actual
    assert str(Path.cwd()) not in actual
    if update_goldens:
        golden.write_bytes(actual.encode())
    assert golden.is_file(), f"no {GOLDEN}; run: pytest --update-goldens"
    assert actual == golden.read_bytes().decode()


def test_every_case_is_complete() -> None:
    """Each folder has something to run, and a golden that belongs to a case."""
    for name in NAMES:
        case = CASES / name
        assert (case / SPEC).exists() or (case / COMMAND).is_file(), name
    goldens = {path.parent for path in CASES.rglob(GOLDEN)}
    assert goldens == {CASES / name for name in NAMES}
    strays = [path.name for path in CASES.iterdir() if path.is_file()]
    assert sorted(strays) == [".gitattributes"]


def test_there_is_a_case_for_every_code_of_specs() -> None:
    """RS0xx to RS4xx are findings about specs, so a case can and does show each of them."""
    from resnet_spec.diagnostics.codes import CODES

    shown = "".join((CASES / name / GOLDEN).read_text(encoding="utf-8") for name in NAMES)
    missing = [code for code in CODES if code < "RS5" and code not in shown]
    assert missing == []


def test_nothing_is_written(tmp_path: Path) -> None:
    """Running the cases above leaves their folders as they are in the repository."""
    allowed = {GOLDEN, COMMAND}
    for root, _, files in os.walk(CASES):
        for file in files:
            known = file in allowed or file.endswith((".yaml", ".txt"))
            assert known or file == ".gitattributes", Path(root, file)
