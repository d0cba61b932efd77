"""Runs a page of documentation: its commands, its files, its snippets, in a folder of its own.

Every fenced block says behind its language what is to be done with it:

  console [exit=1] [needs=keras]  commands behind `$`, with their output; `…` stands for any lines
  <any> file=PATH        the block is written to PATH
  <any> of=PATH at=TEXT  the block is the part of PATH that begins with the line that begins so
  <any> of=… copy=NAME   the same, and the commands of the page find the whole of PATH as NAME
  yaml keys              keys of a network: they take the place of those of a small one
  yaml layers            layers of a block
  yaml … bad=RS101       the same, and this is what is wrong with it
  yaml hook, yaml job    for .pre-commit-config.yaml, and a step of a workflow
  python [needs=torch]   run; with `>>>` the output is compared
  python primitive       the record of a primitive; the language has it from here on
  python rule=MODULE:TABLE   an entry of a table that says how a primitive is written
  shell                  commands that are not run here; targets of make, our flags and trainers
                         must exist
  text                   anything else
"""

from __future__ import annotations

import contextlib
import doctest
import functools
import importlib
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from resnet_spec import cli, primitives
from resnet_spec.cli import parser
from resnet_spec.codegen import generate
from resnet_spec.diagnostics import SpecError
from resnet_spec.ir.summary import expectations
from resnet_spec.language import nodes, validate
from resnet_spec.language.dump import as_yaml
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

ROOT = Path(__file__).parents[2]
ANY = "…"

BASE = """\
spec_version: 1
name: sample
description: What the snippets of a page are put into
input: {channels: 3, height: 64, width: 64}
classes: 10
stem:
  - {conv: conv1, filters: 16, kernel: 3}
stages:
  - {name: layer1, block: basic, repeat: 2, filters: 16}
  - {name: layer2, block: basic, repeat: 2, filters: 32, stride: 2}
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""
SAMPLE = {
    "description": "Holds the layers of a snippet",
    "args": {"filters": 16, "stride": 1, "groups": 2, "scale": 4, "rate": 0.1},
    "slots": {"attention": "squeeze_excitation", "shortcut": "projection"},
}


class Fence(NamedTuple):
    """One fenced block; `line` is where it opens, counted from 1."""

    line: int
    language: str
    options: dict[str, str]
    body: list[str]


class PageError(AssertionError):
    """What a page says is not so."""


def fences(text: str) -> Iterator[Fence]:
    """The fenced blocks of a page."""
    opened: tuple[int, str] | None = None
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if opened is None:
            if line.startswith("```"):
                opened, body = (number, line[3:]), []
        elif line == "```":
            language, _, rest = opened[1].partition(" ")
            words = [word.partition("=") for word in shlex.split(rest)]
            yield Fence(opened[0], language, {key: value for key, _, value in words}, body)
            opened = None
        else:
            body.append(line)
    if opened is not None:
        raise PageError(f"line {opened[0]}: this block does not end")


class Page:
    """A page on its way through its blocks; the working folder must be `folder`."""

    def __init__(
        self, path: Path, folder: Path, frameworks: set[str], update: bool = False
    ) -> None:
        self.path, self.folder, self.frameworks = path, folder, frameworks
        self.update = update
        self.names: dict[str, Any] = {}
        self.real: dict[int, list[str]] = {}
        self.undo: list[Callable[[], object]] = []

    def run(self) -> list[str]:
        """Everything that is not as the page says."""
        wrong = []
        for fence in fences(self.path.read_text(encoding="utf-8")):
            try:
                self.take(fence)
            except (PageError, SpecError, OSError, KeyError) as error:
                wrong.append(f"{self.path.name}:{fence.line}: {error}")
        for step in reversed(self.undo):
            step()
        return wrong

    def updated(self) -> str:
        """The page with the output of its commands and its excerpts as they are."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        for fence in reversed(list(fences("\n".join(lines)))):
            if fence.line in self.real:
                lines[fence.line : fence.line + len(fence.body)] = self.real[fence.line]
        return "\n".join(lines) + "\n"

    def take(self, fence: Fence) -> None:
        if "file" in fence.options:
            target = self.folder / fence.options["file"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("\n".join(fence.body) + "\n", encoding="utf-8")
        elif "of" in fence.options:
            self.compare(fence, self.excerpt(fence))
            if "copy" in fence.options:
                whole = (ROOT / fence.options["of"]).read_bytes()
                (self.folder / fence.options["copy"]).write_bytes(whole)
        elif fence.language == "text" or fence.options.get("needs", "") not in self.frameworks:
            pass
        else:
            kinds = {"console": self.console, "yaml": self.yaml, "python": self.python}
            kinds |= {"shell": self.shell}
            if fence.language not in kinds:
                raise PageError(f"nobody knows what to do with {fence.language!r}")
            kinds[fence.language](fence)

    def compare(self, fence: Fence, real: list[str]) -> None:
        self.real[fence.line] = real
        if not self.update and not matches(fence.body, real):
            shown = "\n".join(real)
            raise PageError(f"this is not what it is. It should read:\n{shown}")

    # - excerpts -

    def excerpt(self, fence: Fence) -> list[str]:
        """From the line that begins so to the next two empty lines, or to the end."""
        name, start = fence.options["of"], fence.options.get("at", "")
        path = self.folder / name
        lines = (path if path.exists() else ROOT / name).read_text(encoding="utf-8").splitlines()
        first = next((n for n, line in enumerate(lines) if line.startswith(start)), None)
        if first is None:
            raise PageError(f"no line of {name} begins with {start!r}")
        until = fence.options.get("until")
        for number in range(first + 1, len(lines)):
            if until is not None and lines[number].startswith(until):
                return _stripped(lines[first:number])
            if until is None and lines[number : number + 2] == ["", ""]:
                return lines[first:number]
        return lines[first:]

    # - commands -

    def console(self, fence: Fence) -> None:
        real: list[str] = []
        code, expected = 0, int(fence.options.get("exit", "0"))
        for command, _ in _commands(fence):
            code, output = self.command(command)
            real += [f"$ {command}", *output]
        if code != expected:
            raise PageError(f"the exit code is {code}, not {expected}:\n" + "\n".join(real))
        if ANY in fence.body:
            if not matches(fence.body, real):
                raise PageError("the output is another:\n" + "\n".join(real))
        else:
            self.compare(fence, real)

    def command(self, command: str) -> tuple[int, list[str]]:
        words = shlex.split(command)
        if words == ["pip", "install", "-e", "."]:
            self.install()
            return 0, []
        if not words or words[0] != "resnet-spec":
            raise PageError(f"nobody knows how to run {command!r}")
        target = None
        if ">" in words:
            target = words[words.index(">") + 1]
            words = words[: words.index(">")]
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            code = cli.main(words[1:])
        if target is not None:
            (self.folder / target).write_text(stream.getvalue(), encoding="utf-8")
            return code, []
        return code, stream.getvalue().splitlines()

    def install(self) -> None:
        """What an editable install of the page's own package amounts to."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text())["project"]
        meta = self.folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        meta.mkdir()
        (meta / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        groups = project.get("entry-points", {})
        lines = [
            line
            for group, entries in groups.items()
            for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
        ]
        (meta / "entry_points.txt").write_text("\n".join(lines) + "\n")
        sys.path.insert(0, str(self.folder))
        clear_backends()

    # - snippets -

    def yaml(self, fence: Fence) -> None:
        text = "\n".join(fence.body) + "\n"
        if "hook" in fence.options:
            _check_hook(yaml.safe_load(text))
        elif "job" in fence.options:
            _check_job(yaml.safe_load(text))
        else:
            self.spec(fence, text)

    def spec(self, fence: Fence, text: str) -> None:
        given = nodes.plain(nodes.parse(text, self.path.name))
        spec = nodes.plain(nodes.parse(BASE, "base"))
        if "keys" in fence.options:
            spec.update(given)
        elif "layers" in fence.options:
            spec["blocks"] = {"sample": {**SAMPLE, "layers": given}}
            spec["stages"] = [{"name": "layer1", "block": "sample"}]
        else:
            raise PageError("say what is to be done with this: keys, layers, file=…")
        if "extends" in given:
            spec = {key: spec[key] for key in ("name", "description")} | given
        try:
            loaded = load("page.yaml", Library(), (), as_yaml(spec).encode())
            found = expectations(loaded, lower(loaded))
        except SpecError as error:
            found = list(error.diagnostics)
        codes = {each.code for each in found}
        if found and "bad" not in fence.options:
            raise PageError(f"it has a mistake: {found[0].code}: {found[0].message}")
        if "bad" in fence.options and codes != set(fence.options["bad"].split(",")):
            raise PageError(f"this is reported as {sorted(codes)}")

    def python(self, fence: Fence) -> None:
        text = "\n".join(fence.body) + "\n"
        if "primitive" in fence.options:
            self.add_primitive(text)
            return
        if "rule" in fence.options:
            module, _, table = fence.options["rule"].partition(":")
            home = importlib.import_module(module)
            self.add(getattr(home, table), eval(f"{{{text}}}", vars(home)))
            return
        sys.path.insert(0, str(self.folder))
        try:
            if text.startswith(">>>"):
                self.doctest(text, fence.line)
            else:
                exec(compile(text, f"{self.path.name}:{fence.line}", "exec"), self.names)
        finally:
            sys.path.remove(str(self.folder))

    def add_primitive(self, text: str) -> None:
        record = eval(text, vars(primitives))
        self.add(primitives.PRIMITIVES, {record.name: record})
        keys = validate.LAYER_KEYS
        validate.LAYER_KEYS = (record.name, *keys)
        self.undo.append(lambda: setattr(validate, "LAYER_KEYS", keys))

    def add(self, table: dict[str, Any], entries: dict[str, Any]) -> None:
        """Entries of a table of the compiler, until the page is left."""
        assert not set(table) & set(entries)
        table.update(entries)
        self.undo += [functools.partial(table.pop, key) for key in entries]

    def doctest(self, text: str, line: int) -> None:
        test = doctest.DocTestParser().get_doctest(text, self.names, self.path.name, None, line)
        stream = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        runner.run(test, out=stream.write, clear_globs=False)
        self.names.update(test.globs)
        if runner.failures:
            raise PageError(stream.getvalue())

    def shell(self, fence: Fence) -> None:
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for line in fence.body:
            words = line.partition("#")[0].split()
            trainers = [word for word in words if word.endswith("/train.py")]
            if trainers:  # whose flags are looked at by the tests of the trainers
                if not (self.folder / trainers[0]).is_file():
                    raise PageError(f"nothing compiles {trainers[0]}")
                continue
            if words[0] == "make" and words[1] not in targets:
                raise PageError(f"the Makefile has no target {words[1]!r}")
            if words[0] == "resnet-spec":
                parser.parser().parse_args(shlex.split(line)[1:])
            elif words[0] not in ("make", "git", "cd", "pip", "pytest"):
                raise PageError(f"nobody knows {words[0]!r}")
            for word in words:
                if word.startswith("tests/") and not (ROOT / word).exists():
                    raise PageError(f"there is no {word}")


def matches(pattern: list[str], real: list[str]) -> bool:
    """Whether lines are as a page shows them; a line `…` stands for any number of lines."""
    parts = [".*\n" if line == ANY else re.escape(line + "\n") for line in pattern]
    whole = "".join("(?:.*\n)*?" if part == ".*\n" else part for part in parts)
    return re.fullmatch(whole, "".join(f"{line}\n" for line in real)) is not None


def clear_backends() -> None:
    """Let the compiler look for installed backends again."""
    generate._entries.cache_clear()
    generate.find_backend.cache_clear()


def _stripped(lines: list[str]) -> list[str]:
    while lines and not lines[-1]:
        lines = lines[:-1]
    return lines


def _commands(fence: Fence) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in fence.body:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif not found:
            raise PageError("a console begins with a command: $ …")
        else:
            found[-1][1].append(line)
    return found


def _check_hook(value: Any) -> None:
    known = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    named = {hook["id"] for repo in value["repos"] for hook in repo["hooks"]}
    if not named or not named <= known:
        raise PageError(f"there is no hook {sorted(named - known)}")


def _check_job(value: Any) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps = [step for step in value if "resnet-spec" in step.get("uses", "")]
    given = {key for step in steps for key in step.get("with", {})}
    if not steps or not given <= set(action["inputs"]):
        raise PageError(f"the action has no input {sorted(given - set(action['inputs']))}")
