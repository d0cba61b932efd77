"""The command line: verbs, flags, exit codes, what goes where."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import pytest

import resnet_spec
from resnet_spec import cli
from resnet_spec.cli.shared import Exit
from resnet_spec.codegen import header
from resnet_spec.diagnostics import fail
from resnet_spec.ir import Network
from resnet_spec.language.library import builtin_folder, builtin_specs

NET = """\
spec_version: 1
name: {name}
description: a small net
input: {{channels: 3, height: 32, width: 32}}
stages:
  - {{name: layer1, block: basic, filters: {filters}}}
"""
BAD = NET.format(name="bad", filters="nothing")
PROJECT = """\
[[tool.resnet-spec.compile]]
specs = ["specs/*.yaml"]
"""


class Result:
    """What a command line did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, object]:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


Run = Callable[..., Result]


def fake_generate(
    network: Network, backends: Sequence[str], trainer: bool = False
) -> dict[PurePosixPath, str]:
    """Files like a backend's, without one: fast, and independent of how code is written."""
    result = {}
    for backend in backends:
        lines = header.lines(network.path, network.digest, "resnet-spec compile")
        body = f"{backend} {network.name} {network.root.parameters}"
        text = "\n".join([*(f"# {line}" for line in lines), body, ""])
        result[PurePosixPath(backend) / f"{network.name}.py"] = header.seal(text)
    return result


def fake_backend(name: str) -> str:
    if name not in ("json", "keras", "torch"):
        fail("RS501", f"there is no backend '{name}'")
    return name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with files made by a stand-in for the backends."""
    stub = types.ModuleType("resnet_spec.codegen.generate")
    stub.generate = fake_generate  # type: ignore[attr-defined]
    stub.find_backend = fake_backend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "resnet_spec.codegen.generate", stub)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> Result:
        code = cli.main(arguments)
        return Result(code, *capsys.readouterr())

    return call


def told(result: Result) -> tuple[int, int]:
    """How many files a run says that it wrote, and how many were as they should be."""
    words = [line.split(" ", 1)[0] for line in result.out.splitlines()]
    assert set(words) <= {"wrote", "unchanged"}, result.out
    return words.count("wrote"), words.count("unchanged")


@pytest.fixture
def project(folder: Path) -> Path:
    """Two specs and the settings that compile them."""
    (folder / "specs").mkdir()
    for name, filters in (("a", 8), ("b", 16)):
        (folder / "specs" / f"{name}.yaml").write_text(NET.format(name=name, filters=filters))
    (folder / "pyproject.toml").write_text(PROJECT)
    return folder


def process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    root = str(Path(resnet_spec.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        **options,
    )


# --- the whole -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compile", "--help"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from resnet_spec.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'pydantic', 'jinja2', 'yaml', 'json', 'dataclasses', 'difflib', 'tomllib'};"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    done = process("-c", script, *arguments)
    assert done.stdout.endswith("0 []\n"), done.stdout + done.stderr


def test_version(run: Run) -> None:
    assert run("--version").out == f"resnet-spec {resnet_spec.__version__}\n"


@pytest.mark.parametrize(
    "verb", ["check", "show", "list", "explain", "schema", "init", "compile", "weights"]
)
def test_every_verb_has_examples(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert result.code == 0
    assert f"\n  resnet-spec {verb}" in result.out


def test_a_clone_runs_where_another_copy_is_installed(folder: Path) -> None:
    """With the clone first on the path, as for `python -m resnet_spec`."""
    root = str(Path(__file__).parents[2])
    script = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)];"
        "sys.path[:] = [sys.argv[1], *(p for p in sys.path if 'editable' not in p)];"
        "from resnet_spec.cli import main; sys.exit(main(sys.argv[2:]))"
    )
    done = process("-c", script, root, "compile", "resnet18", "--backend", "torch", "--isolated")
    assert (done.returncode, done.stdout) == (0, "wrote generated/torch/resnet18.py\n"), done.stderr


def test_no_verb_needs_templates_but_compile(folder: Path) -> None:
    script = (
        "import sys; from resnet_spec.cli import main;"
        "codes = [main(a.split()) for a in sys.argv[1:]];"
        "heavy = {'jinja2', 'torch', 'keras', 'tomllib'};"
        "print(codes, sorted(heavy & set(sys.modules)))"
    )
    done = process("-c", script, "check resnet18", "show resnet18", "explain", "list")
    assert done.stdout.endswith("[0, 0, 0, 0] []\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: the following arguments are required: VERB"),
        (["chek"], "error: 'chek' is not a verb: did you mean 'check'?"),
        (["check"], "error: the following arguments are required: PATH"),
        (["compile", "--nonsense"],
         "error: unrecognized arguments: --nonsense\ntry: resnet-spec compile --help"),
        (["compile", "x", "--back=torch"],
         "error: unrecognized arguments: --back=torch\ndid you mean --backend?"),
        (["weights", "convert", "x", "y", "--out", "z", "--tto", "torch"],
         "error: unrecognized arguments: --tto torch\ndid you mean --to?\n"
         "try: resnet-spec weights convert --help"),
        (["compile", "--check", "--stdout"], "error: --check cannot be used with --stdout"),
        (["compile", "--check", "--force"], "error: --check cannot be used with --force"),
        (["compile", "--diff", "--stdout"], "error: --diff cannot be used with --stdout"),
        (["compile", "--diff", "--force"], "error: --diff cannot be used with --force"),
        (["compile", "--diff", "--format", "json"],
         "error: --diff cannot be used with --format json"),
        (["compile", "x", "--stdout", "--out", "y"], "error: --stdout cannot be used with --out"),
        (["compile", "x", "--stdout", "--force"], "error: --stdout cannot be used with --force"),
        (["compile", "--config", "x", "--isolated"],
         "error: --config cannot be used with --isolated"),
        (["compile", "--out", "x"], "error: --out needs a SPEC"),
        (["compile", "--set", "classes=1"], "error: --set needs a SPEC"),
        (["compile", "--isolated"], "error: --isolated needs a SPEC"),
        (["compile", "x", "--stdin-filename", "y"], "error: --stdin-filename needs the SPEC -"),
        (["compile", "x", "--out", ""], "error: --out needs the name of a folder"),
        (["compile", "x", "--set", "a=\udcff"],
         "error: the value of --set is not UTF-8: 'a=\\udcff'"),
        (["compile"], "error: compile needs a SPEC: no settings were found"),
        (["explain", "RS999999"], "error: there is no code 'RS999999'"),
        (["init", "net.txt"], "error: 'net.txt' must end in .yaml"),
        (["init", "class.yaml"], "error: 'class' can't name a network"),
        (["init", "net.yaml", "--from", "renset18"],
         "error: there is no built-in spec 'renset18': did you mean 'resnet18'?"),
    ],
)  # fmt: skip
def test_wrong_usage(run: Run, folder: Path, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (Exit.FAILURE, "")
    assert result.err.startswith(message)
    assert list(folder.iterdir()) == []


def test_an_unexpected_failure_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("resnet_spec.cli.list.run", breaks)
    monkeypatch.delenv("RESNET_SPEC_TRACEBACK", raising=False)
    result = run("list")
    assert (result.code, result.err) == (2, "internal error: RuntimeError: two lines\n")
    monkeypatch.setenv("RESNET_SPEC_TRACEBACK", "1")
    assert run("list").err.startswith("Traceback")


def test_a_full_disk_behind_standard_output() -> None:
    root = str(Path(resnet_spec.__file__).parent.parent)
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "resnet_spec", "list", "resnet18"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONPATH": root},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "error: no space left on device\n")


def test_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("resnet_spec.cli.list.run", interrupted)
    result = run("list")
    assert (result.code, result.out, result.err) == (130, "", "")


class Waiting:
    """A standard input at which somebody loses patience."""

    def read(self, size: int = -1) -> bytes:
        raise KeyboardInterrupt


def test_ctrl_c_while_reading(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=Waiting()))
    result = run("check", "-")
    assert (result.code, result.out, result.err) == (130, "", "")


@pytest.mark.parametrize("arguments", [["list", "resnet18"], ["--help"]])
def test_a_reader_that_goes_away(arguments: list[str]) -> None:
    root = str(Path(resnet_spec.__file__).parent.parent)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "resnet_spec", *arguments],
            stdout=stdout, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONPATH": root},
        )  # fmt: skip
    # argparse says nothing when --help can't be printed
    codes = (Exit.BROKEN_PIPE, Exit.CLEAN) if arguments == ["--help"] else (Exit.BROKEN_PIPE,)
    assert done.returncode in codes
    assert done.stderr == ""


def test_a_terminal_that_cannot_show_a_character(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(NET.format(name="net", filters=8) + "ключ: 1\n")
    root = str(Path(resnet_spec.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-m", "resnet_spec", "check", "net.yaml"],
        capture_output=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": root, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 1
    assert rb"unknown key '\u043a\u043b\u044e\u0447'" in done.stdout


# --- compile -------------------------------------------------------------------------------------


def test_compile_by_path_and_by_name(run: Run, project: Path) -> None:
    result = run("compile", "specs/a.yaml", "resnet18")
    assert (result.code, result.err, told(result)) == (0, "", (4, 0))
    assert "wrote generated/torch/a.py\n" in result.out
    for path in ("torch/a.py", "keras/a.py", "torch/resnet18.py", "keras/resnet18.py"):
        assert header.status((project / "generated" / path).read_text()) == "intact"
    assert told(run("compile", "specs/a.yaml", "resnet18")) == (0, 4)
    assert run("compile", "specs/a.yaml", "--quiet").err == ""


def test_flags_of_compile(run: Run, project: Path) -> None:
    result = run(
        "compile", "specs/a.yaml", "--backend", "json", "--out", "o/p", "--backend", "json"
    )
    assert (result.out, result.err) == ("wrote o/p/json/a.py\n", "")
    assert [p.name for p in (project / "o/p").rglob("*.py")] == ["a.py"]
    assert "generated" not in os.listdir()
    listed = run("compile", "specs/a.yaml", "--backend", "json, torch", "--out", "o/q")
    assert listed.out == "wrote o/q/json/a.py\nwrote o/q/torch/a.py\n"
    before = run("compile", "specs/a.yaml", "--backend", "json", "--stdout").out
    after = run("compile", "specs/a.yaml", "--backend", "json", "--stdout",
                "--set", "stages.layer1.filters=4").out  # fmt: skip
    assert before == (project / "o/p/json/a.py").read_text() != after
    assert run("compile", "specs/a.yaml", "--stdout").code == 2
    assert "this run makes 2" in run("compile", "specs/a.yaml", "--stdout").err
    assert run("compile", "specs/a.yaml", "--backend", "json", "--out", "-").out == before


def test_an_unknown_backend(run: Run, project: Path) -> None:
    result = run("compile", "specs/a.yaml", "--backend", "tourch")
    assert result.code == 2
    assert result.err == "error RS501: there is no backend 'tourch'\n1 error\n"


def test_compile_what_the_settings_name(run: Run, project: Path) -> None:
    assert told(run("compile")) == (4, 0)
    files = {path: path.read_bytes() for path in (project / "generated").rglob("*.py")}
    assert len(files) == 4
    # from another folder it is the same work
    os.chdir("specs")
    result = run("compile", "--check")
    assert (result.code, result.err) == (0, "4 unchanged\n")
    for path in files:
        path.unlink()
    assert run("compile").code == 0
    assert {path: path.read_bytes() for path in (project / "generated").rglob("*.py")} == files
    assert b"from specs/a.yaml" in files[project / "generated/torch/a.py"]


def test_a_spec_is_named_from_the_projects_folder(run: Run, project: Path) -> None:
    at_root = run("compile", "specs/a.yaml", "--backend", "torch", "--stdout").out
    os.chdir("specs")
    assert run("compile", "a.yaml", "--backend", "torch", "--stdout").out == at_root
    here = run("compile", "a.yaml", "--backend", "torch", "--stdout", "--isolated").out
    assert "from a.yaml" in here


def test_one_backend_of_the_settings(run: Run, project: Path) -> None:
    assert told(run("compile", "--backend", "torch")) == (2, 0)
    result = run("compile", "--backend", "json")
    assert (result.code, result.err) == (
        2,
        "error: no target of 'pyproject.toml' has the backend json\n",
    )


def test_settings_by_path_and_without(run: Run, project: Path) -> None:
    (project / "other.toml").write_text('[[compile]]\nspecs = ["specs/a.yaml"]\nout = "made"\n')
    assert told(run("compile", "--config", "other.toml")) == (2, 0)
    assert (project / "made/torch/a.py").exists()
    (project / "pyproject.toml").write_text("[tool.resnet-spec]\ncompil = 1\n")
    result = run("compile")
    assert result.code == 2
    assert "pyproject.toml:2:1: error RS702: unknown key 'compil' in the settings" in result.err
    assert "2 | compil = 1" in result.err
    assert "= help: did you mean 'compile'?" in result.err
    # with a SPEC they are not asked
    assert run("compile", "specs/a.yaml").code == 0
    assert run("compile", "specs/a.yaml", "--isolated").code == 0


def test_check_lists_what_is_wrong(run: Run, project: Path) -> None:
    run("compile")
    (project / "specs/c.yaml").write_text(NET.format(name="c", filters=8))
    run("compile")
    (project / "specs/c.yaml").unlink()
    (project / "generated/torch/a.py").unlink()
    with (project / "generated/keras/a.py").open("a") as file:
        file.write("mine\n")
    (project / "generated/torch/b.py").write_text("mine\n")
    spec = project / "specs/b.yaml"
    spec.write_text(spec.read_text().replace("16", "32"))
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    result = run("compile", "--check")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == [
        "edited by hand: generated/keras/a.py",
        "out of date: generated/keras/b.py",
        "missing: generated/torch/a.py",
        "not written by resnet-spec: generated/torch/b.py",
        "orphaned: generated/keras/c.py",
        "orphaned: generated/torch/c.py",
        "1 out of date, 1 missing, 1 edited by hand, 1 not ours, 2 orphaned, 0 unchanged",
        "run: resnet-spec compile --force",
        "no spec produces the orphaned files: delete them",
    ]
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    told = run("compile", "--check", "--format", "json").json["diagnostics"]
    assert isinstance(told, list)
    assert [(each["code"], each["path"]) for each in told] == [
        ("RS603", "generated/keras/a.py"),
        ("RS606", "generated/keras/b.py"),
        ("RS608", "generated/keras/c.py"),
        ("RS607", "generated/torch/a.py"),
        ("RS602", "generated/torch/b.py"),
        ("RS608", "generated/torch/c.py"),
    ]
    github = run("compile", "--check", "--format", "github").err.splitlines()
    assert github[0].startswith("::error file=generated/keras/a.py,line=1")
    # --quiet leaves the findings and the code
    assert len(run("compile", "--check", "--quiet").err.splitlines()) == 6


def test_the_command_that_mends(run: Run, project: Path) -> None:
    words = [
        "specs/a.yaml",
        "--backend",
        "torch",
        "--set",
        "description=a b",
        "--out",
        "my out",
    ]
    told = run("compile", *words, "--check").err.splitlines()[-1]
    command = (
        "resnet-spec compile specs/a.yaml --backend torch --set 'description=a b' --out 'my out'"
    )
    assert told == f"run: {command}"


def test_orphans_are_told_and_kept(run: Run, project: Path) -> None:
    run("compile")
    (project / "specs/b.yaml").unlink()
    result = run("compile")
    assert (result.code, told(result)) == (0, (0, 2))
    assert result.err.splitlines() == [
        "orphaned: no spec produces generated/keras/b.py: delete it",
        "orphaned: no spec produces generated/torch/b.py: delete it",
    ]
    assert (project / "generated/torch/b.py").exists()
    # a run on one spec does not know the others
    assert run("compile", "specs/a.yaml", "--check").code == 0


def test_diff(run: Run, project: Path) -> None:
    run("compile")
    spec = project / "specs/a.yaml"
    spec.write_text(spec.read_text().replace("8", "4"))
    result = run("compile", "--diff", "--backend", "torch")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:2] == ["--- a/generated/torch/a.py", "+++ b/generated/torch/a.py"]
    assert [line for line in lines if line.startswith(("-torch", "+torch"))] == [
        "-torch a 864", "+torch a 288"
    ]  # fmt: skip
    result = run("compile", "--diff", "--check", "--backend", "torch")
    assert (result.code, result.out.splitlines()) == (1, lines)
    assert "out of date: generated/torch/a.py" in result.err
    assert told(run("compile", "--backend", "torch")) == (1, 1)
    assert run("compile", "--diff", "--check").code == 1


def test_nothing_is_replaced_unless_forced(run: Run, project: Path) -> None:
    run("compile")
    edited, foreign = project / "generated/torch/a.py", project / "generated/keras/b.py"
    with edited.open("a") as file:
        file.write("mine\n")
    foreign.write_text("mine\n")
    for name in ("a", "b"):
        spec = project / f"specs/{name}.yaml"
        spec.write_text(spec.read_text().replace("a small", "another"))
    before = {path: path.read_bytes() for path in (project / "generated").rglob("*.py")}
    result = run("compile")
    assert (result.code, result.out) == (1, "")
    assert "error RS602: 'generated/keras/b.py' was not written by resnet-spec" in result.err
    assert "error RS603: 'generated/torch/a.py' was edited by hand" in result.err
    assert result.err.endswith("nothing was written\n")
    assert {path: path.read_bytes() for path in (project / "generated").rglob("*.py")} == before
    assert told(run("compile", "--force")) == (4, 0)
    assert run("compile", "--check").code == 0


def test_all_errors_in_one_run_and_nothing_written(run: Run, project: Path) -> None:
    (project / "specs/c.yaml").write_text(BAD)
    (project / "specs/d.yaml").write_text(BAD.replace("layer1", "layer 1"))
    result = run("compile")
    assert (result.code, result.out) == (1, "")
    assert "specs/c.yaml:6:43: error RS202: 'nothing' is not defined here" in result.err
    assert "specs/d.yaml:6:12: error RS105" in result.err
    assert "errors in 2 files" in result.err
    assert not (project / "generated").exists()
    assert run("compile", "specs/c.yaml", "--format", "json").json["valid"] is False


def test_a_broken_block_spoils_every_spec_that_uses_it(run: Run, project: Path) -> None:
    (project / "specs/blocks").mkdir()
    (project / "specs/blocks/mine.yaml").write_text("block: mine\nlayers: []\n")
    for name in ("a", "b"):
        spec = project / f"specs/{name}.yaml"
        spec.write_text(spec.read_text().replace("basic", "mine") + "expect: {parameters: 1}\n")
    result = run("compile")
    assert result.code == 1
    assert result.err.count("error RS102") == 1
    assert result.err.endswith("1 error in 1 file\n")


def test_two_specs_for_one_file(run: Run, project: Path) -> None:
    (project / "specs/z.yaml").write_text(NET.format(name="a", filters=24))
    result = run("compile")
    assert result.code == 1
    assert (
        "error RS609: 'specs/a.yaml' and 'specs/z.yaml' would both be written to "
        "'generated/keras/a.py'" in result.err
    )
    assert not (project / "generated").exists()
    # the same spec, named twice, is no conflict
    assert run("compile", "specs/a.yaml", "./specs/a.yaml", "specs/../specs/a.yaml").code == 0


def test_standard_input(project: Path) -> None:
    script = (
        "import sys, types; from resnet_spec import cli;"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_cli;"
        "stub = types.ModuleType('g'); stub.generate = test_cli.fake_generate;"
        "stub.find_backend = test_cli.fake_backend;"
        "sys.modules['resnet_spec.codegen.generate'] = stub;"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    (project / "specs/blocks").mkdir()
    (project / "specs/blocks/mine.yaml").write_text(
        "block: mine\ndescription: a block\nlayers: [{conv: c, filters: 4, kernel: 1}]\n"
    )
    text = NET.format(name="piped", filters=8).replace("block: basic, filters: 8", "block: mine")
    words = ["compile", "-", "--backend", "torch"]
    done = process("-c", script, *words, input=text, cwd=project)
    assert done.returncode == 1
    assert "<stdin>:6:27:" in done.stderr
    assert "there is no block 'mine'" in done.stderr
    words += ["--stdin-filename", "specs/piped.yaml"]
    done = process("-c", script, *words, input=text, cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["wrote generated/torch/piped.py"]
    assert "from specs/piped.yaml" in (project / "generated/torch/piped.py").read_text()


def test_an_output_folder_that_is_a_file(run: Run, project: Path) -> None:
    (project / "generated").write_text("")
    result = run("compile", "--format", "json")
    assert result.code == 2
    assert {each["code"] for each in result.json["diagnostics"]} == {"RS605"}  # type: ignore[attr-defined]


def test_json_of_a_run(run: Run, project: Path) -> None:
    result = run("compile", "specs/a.yaml", "--backend", "torch", "--format", "json")
    assert (result.code, result.err) == (0, "")
    assert result.json == {
        "format_version": 1,
        "valid": True,
        "error_count": 0,
        "diagnostics": [],
        "files": [{"path": "generated/torch/a.py", "status": "missing"}],
    }


# --- check ---------------------------------------------------------------------------------------


def test_check_what_comes_with_the_package(run: Run) -> None:
    result = run("check", str(builtin_folder()))
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith(" checked, no errors\n")
    assert "block" in result.out
    assert run("check", "resnet18").out == "1 spec checked, no errors\n"
    assert run("check", "resnet18", "--quiet").out == ""


def test_check_tells_what_a_backend_cannot_say(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "resnet_spec.codegen.generate")  # the backends themselves
    spec = project / "dilated.yaml"
    spec.write_text(
        "spec_version: 1\nname: dilated\ndescription: A stride and a dilation\n"
        "stem: [{conv: conv1, filters: 8, kernel: 3, stride: 2, dilation: 2}]\n"
        "stages: [{name: layer1, block: basic, filters: 8}]\n"
        "head: [global_avg_pool, {linear: fc, features: classes}]\n"
    )
    assert run("check", "dilated.yaml", "--backend", "torch").code == 0
    for backends in ([], ["--backend", "torch", "--backend", "keras"]):
        result = run("check", "dilated.yaml", *backends)
        assert result.code == 1
        assert result.out.startswith("dilated.yaml:4:9: error RS502: 'conv1': ")
    result = run("check", "dilated.yaml", "--backend", "kears")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error RS501: there is no backend 'kears'\n")


def test_check_tells_everything_on_standard_output(run: Run, project: Path) -> None:
    (project / "specs/c.yaml").write_text(BAD)
    (project / "specs/blocks").mkdir()
    (project / "specs/blocks/one.yaml").write_text("block: two\ndescription: x\nlayers: []\n")
    (project / "specs/.hidden.yaml").write_text("nonsense")
    with (project / "specs/a.yaml").open("a") as file:
        file.write("expect: {parameters: 865, macs: 0}\n")
    result = run("check", "specs", "specs/c.yaml", "none.yaml")
    assert (result.code, result.err) == (1, "")
    found = [
        line for line in result.out.splitlines() if ": error " in line or line.startswith("err")
    ]
    assert [line.split(": error ")[0] + " " + line.split("error ")[1][:5] for line in found] == [
        "error RS107: there is no file 'none.yaml' RS107",
        "specs/a.yaml:7:22 RS406",
        "specs/a.yaml:7:33 RS406",
        "specs/blocks/one.yaml:1:8 RS105",
        "specs/c.yaml:6:43 RS202",
    ]
    assert "'parameters' should be 865, but the network has 864" in result.out
    told = run("check", "specs", "--format", "json")
    assert (told.json["valid"], told.json["specs"], told.json["blocks"]) == (False, 3, 1)


def test_check_a_block_by_path(run: Run, folder: Path) -> None:
    (folder / "mine.yaml").write_text("block: mine\ndescription: x\nlayers: []\nfoo: 1\n")
    result = run("check", "mine.yaml")
    assert result.code == 1
    assert "mine.yaml:4:1: error RS101: unknown key 'foo' in the block" in result.out
    (folder / "empty").mkdir()
    assert "there is no spec in the folder 'empty'" in run("check", "empty").out


def test_color(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "specs/a.yaml").write_text(BAD)
    assert "\x1b[" not in run("check", "specs/a.yaml").out
    assert "\x1b[31m" in run("check", "specs/a.yaml", "--color", "always").out
    monkeypatch.setattr(sys.stdout.__class__, "isatty", lambda self: True)
    assert "\x1b[31m" in run("check", "specs/a.yaml").out
    assert "\x1b[" not in run("check", "specs/a.yaml", "--color", "never").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run("check", "specs/a.yaml").out


# --- show, list, explain, init -------------------------------------------------------------------


def test_show(run: Run) -> None:
    result = run("show", "resnet50")
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines()]
    stage = "layer3 1024x14x14 6 x bottleneck 256 7,098,368 1,464,336,384 267 16"
    assert stage.split() in rows
    assert ["parameters", "25,557,032"] in rows
    told = run("show", "resnet50", "--format", "json").json
    assert told["parameters"] == 25_557_032
    assert told["macs"] == 4_089_184_256
    sections = told["sections"]
    assert isinstance(sections, list)
    assert sections[3]["receptive_field"] == 267
    assert sections[5]["receptive_field"] is None
    assert run("show", "resnet50", "--set", "classes=10", "--format", "json").json["classes"] == 10


def test_show_errors(run: Run) -> None:
    result = run("show", "resnet51")
    assert (result.code, result.out) == (1, "")
    assert "there is no spec 'resnet51'" in result.err
    result = run("show", "resnet51", "--format", "json")
    assert (result.code, result.err, result.json["error_count"]) == (1, "", 1)


def test_resolved_is_the_same_network(run: Run, folder: Path) -> None:
    (folder / "mine.yaml").write_text(
        "spec_version: 1\nname: mine\ndescription: 'no, 1e-5 and: 0o17'\nextends: resnet50\n"
        "source: '1e-5'\nfamily: 'no'\nclasses: 7\n"
        "defaults: {norm: {batch_norm: {eps: 1e-6}}}\nstages: {layer4: {repeat: 1}}\n"
    )
    resolved = run("show", "mine.yaml", "--resolved", "--set", "input.height=96")
    assert (resolved.code, resolved.err) == (0, "")
    assert "extends" not in resolved.out
    (folder / "whole.yaml").write_text(resolved.out)
    whole = run("show", "whole.yaml", "--format", "json").json
    again = run("show", "mine.yaml", "--set", "input.height=96", "--format", "json").json
    assert whole.pop("path") == "whole.yaml"
    assert again.pop("path") == "mine.yaml"
    assert whole == again
    assert (whole["source"], whole["family"]) == ("1e-5", "no")
    assert run("show", "whole.yaml", "--resolved").out == resolved.out


def test_list(run: Run) -> None:
    lines = run("list").out.splitlines()
    names = [line.split()[0] for line in lines[1:]]
    paper = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    assert [name for name in names if name in paper] == paper
    assert sorted(names) == sorted(builtin_specs())
    specs = run("list", "resnet*", "--format", "json").json["specs"]
    assert isinstance(specs, list)
    assert {each["name"]: each["parameters"] for each in specs}["resnet50"] == 25_557_032


def test_explain(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from resnet_spec.diagnostics.codes import Code

    code = Code("a title", "Why it is so.\n", "bad: 1\n", "good: 1\n")
    monkeypatch.setattr("resnet_spec.cli.explain.CODES", {"RS104": code})
    assert run("explain", "rs104").out == (
        "RS104: a title\n\nWhy it is so.\n\nwrong:\n\n    bad: 1\n\nright:\n\n    good: 1\n"
    )
    assert run("explain").out == "code   meaning\nRS104  a title\n"
    assert run("explain", "RS105").err.startswith(
        "error: there is no code 'RS105': did you mean 'RS104'?"
    )


# The first of each folder; all of them compile and check in other tests.
BASES = {Path(path).parent: name for name, path in reversed(builtin_specs().items())}


@pytest.mark.parametrize("base", [None, *BASES.values()])
def test_init_writes_a_spec_that_compiles(run: Run, folder: Path, base: str | None) -> None:
    words = ["--from", base] if base else []
    result = run("init", "My-Net.yaml", *words)
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines()[-1].strip() == "resnet-spec compile My-Net.yaml"
    assert run("check", "My-Net.yaml").code == 0
    assert run("compile", "My-Net.yaml").code == 0
    assert (folder / "generated/torch/my_net.py").exists()
    before = (folder / "My-Net.yaml").read_text()
    assert run("init", "My-Net.yaml").code == 2
    assert (folder / "My-Net.yaml").read_text() == before


def test_schema(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = types.ModuleType("resnet_spec.language.json_schema")
    stub.json_schema = lambda kind: {"title": kind}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "resnet_spec.language.json_schema", stub)
    assert run("schema").json == {"title": "network"}
    assert run("schema", "block").json == {"title": "block"}


# --- the package ---------------------------------------------------------------------------------


def test_public_names() -> None:
    assert set(resnet_spec.__all__) == set(dir(resnet_spec))
    for name in resnet_spec.__all__:
        assert getattr(resnet_spec, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = resnet_spec.nothing
    network = resnet_spec.read_network("resnet18", ["classes=10"])
    assert network.classes == 10
    with pytest.raises(resnet_spec.SpecError):
        resnet_spec.read_network("resnet17")


def test_compile_spec(folder: Path) -> None:
    made = resnet_spec.compile_spec("resnet18", ["torch"])
    assert list(made) == [PurePosixPath("torch/resnet18.py")]
    assert list(folder.iterdir()) == []


def test_the_real_backends(tmp_path: Path) -> None:
    """From an empty folder to files that are Python, and that a second run finds up to date."""
    assert process("-m", "resnet_spec", "init", "net.yaml", cwd=tmp_path).returncode == 0
    done = process("-m", "resnet_spec", "compile", "net.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "wrote generated/keras/net.py\nwrote generated/torch/net.py\n"
    for backend in ("torch", "keras"):
        text = (tmp_path / "generated" / backend / "net.py").read_text()
        assert header.status(text) == "intact"
        assert any(
            isinstance(node, ast.FunctionDef) and node.name == "net"
            for node in ast.parse(text).body
        )
    done = process("-m", "resnet_spec", "compile", "net.yaml", "--check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "2 unchanged\n")


# --- list ----------------------------------------------------------------------------------------


def listed(result: Result) -> list[str]:
    specs = result.json["specs"]
    assert isinstance(specs, list)
    return [each["name"] for each in specs]


def test_list_filters(run: Run) -> None:
    names = ("resnet18", "resnet50", "resnet152", "vgg11")
    assert set(listed(run("list", *names, "--format", "json"))) == set(names)

    small = run("list", "--max-parameters", "30M", *names, "--format=json")
    assert listed(small) == ["resnet18", "resnet50"]

    family = run("list", "--family", "resnet", *names, "--format", "json")
    assert listed(family) == ["resnet18", "resnet50", "resnet152"]

    assert listed(run("list", "no_such_name", "--format", "json")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-parameters", "3x"], "'3x' is not a number of parameters"),
        (["--family", "resnt", "resnet18"], "there is no family 'resnt': did you mean 'resnet'?"),
    ],
)
def test_list_wrong_filters(run: Run, arguments: list[str], message: str) -> None:
    result = run("list", *arguments)
    assert result.code == Exit.FAILURE
    assert message in result.err


def test_check_a_spec_with_changes(run: Run) -> None:
    assert run("check", "resnet18", "--set", "stages.layer4.repeat=3").code == Exit.CLEAN
    result = run("check", "resnet18", "--set", "stages.layer4.filters=0")
    assert result.code == Exit.FINDINGS
    assert "RS205: 'filters' must be at least 1, but is 0" in result.out


@pytest.mark.parametrize("nothing", ["null", "~", ""])
def test_nothing_is_set_as_it_stands_in_a_file(run: Run, folder: Path, nothing: str) -> None:
    text = f"name: a\ndescription: A\nextends: resnet18\nstages:\n  layer4: {nothing}\n"
    (folder / "a.yaml").write_text(text)
    changed = run("show", "resnet18", "--set", f"stages.layer4={nothing}", "--format", "json").json
    written = run("show", "a.yaml", "--format", "json").json
    assert changed["parameters"] == written["parameters"] != 11_689_512


def test_closed_streams(run: Run, project: Path) -> None:
    """Nothing that is meant for one stream goes to the other."""
    for words, code in (("compile specs/a.yaml --check", 1), ("compile specs/a.yaml --out -", 2)):
        command = f"{sys.executable} -m resnet_spec {words} --backend torch --isolated"
        no_errors, no_output = (
            subprocess.run(
                f"{command} {closed}", shell=True, capture_output=True, text=True, check=False
            )
            for closed in ("2>&-", ">&-")
        )
        assert "missing" not in no_errors.stdout
        assert no_output.returncode == code
        assert "internal error" not in no_output.stderr


def test_a_trainer_that_no_backend_has(run: Run, project: Path) -> None:
    result = run("compile", "specs/a.yaml", "--backend", "json", "--trainer")
    assert (result.code, result.err) == (2, "error: --trainer: no trainer comes with json\n")
    result = run("compile", "--trainer")
    assert result.err.endswith("without one, the settings apply: trainer = true\n")
