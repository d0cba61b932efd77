"""The settings of a project: which specs to compile for which backends, and where to.

They are in `[tool.resnet-spec]` of pyproject.toml, or in resnet-spec.toml, in the working folder or
the nearest folder above it. All paths in them are relative to that file.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from resnet_spec.diagnostics import Diagnostic, Report, Span, SpecError, expected, quoted
from resnet_spec.disk.files import DISK
from resnet_spec.disk.projects import MAX_BYTES, OWN_FILE, PROJECT_FILE
from resnet_spec.disk.regular import open_regular
from resnet_spec.language.library import BLOCKS, RECIPES, SUFFIXES, shown_path
from resnet_spec.project import patterns

DEFAULT_BACKENDS = ("torch", "keras")
DEFAULT_OUT = "generated"
TOP_KEYS = ("compile",)
TARGET_KEYS = ("specs", "backends", "out", "trainer")

_PLACE = r" \(at line (\d+), column (\d+)\)$"


class SettingsError(SpecError):
    """The settings can't be used: not a finding about a spec. `sources` is for the messages."""

    def __init__(self, found: Iterable[Diagnostic], sources: Mapping[str, str]) -> None:
        super().__init__(found)
        self.sources = sources


class Target(NamedTuple):
    """Specs by file, the backends that they are compiled for, and the output folder.

    `trainer`: training scripts are written as well.
    """

    specs: tuple[Path, ...]
    backends: tuple[str, ...]
    out: Path
    trainer: bool = False


class Settings(NamedTuple):
    """What a settings file says; `folder` is where it stands, `text` for messages."""

    path: str
    folder: Path
    text: str
    targets: tuple[Target, ...]


def find(start: Path, outside: bool = False) -> Settings | None:
    """The settings of the nearest folder that has some, from `start` upward.

    `outside` lets them name specs and an output folder beyond their own folder. Raises
    `SettingsError` (RS701 to RS706).
    """
    for folder in (start, *start.parents):
        own = folder / OWN_FILE
        table = _project_table(folder / PROJECT_FILE)
        if os.path.isfile(own) and table is not None:
            shown = shown_path(own)
            _stop(
                "RS704",
                f"both {quoted(OWN_FILE)} and {quoted(PROJECT_FILE)} have settings",
                Span(shown),
                f"keep one: move [tool.resnet-spec] into {OWN_FILE}, or remove that file",
            )
        if table is not None:
            return _settings(folder / PROJECT_FILE, *table, outside)
        if os.path.isfile(own):
            _check_link(own)
            return read(own, outside)
    return None


def _check_link(path: Path) -> None:
    """RS706 for settings that were found, not named, and that are a link to a file elsewhere."""
    if not DISK.is_within(path, path.parent):
        shown = shown_path(path)
        message = f"{quoted(shown)} is a link that leads out of its folder"
        _stop("RS706", message, Span(shown), "copy the file, or name it with --config")


def read(path: Path, outside: bool = False) -> Settings:
    """The settings in one file; a pyproject.toml must have the table (RS703)."""
    if path.name != PROJECT_FILE:
        text = _text(path)
        return _settings(path, text, _parsed(path, text), outside)
    table = _project_table(path, required=True)
    if table is None:
        _stop(
            "RS703",
            f"{quoted(shown_path(path))} has no table [tool.resnet-spec]",
            Span(shown_path(path)),
            'add [[tool.resnet-spec.compile]] with specs = ["specs/*.yaml"]',
        )
    return _settings(path, *table, outside)


def _project_table(path: Path, required: bool = False) -> tuple[str, Any] | None:
    """The text of a pyproject.toml and our table in it, where there is one."""
    if not required and not os.path.isfile(path):
        return None
    text = _text(path)
    if "resnet-spec" not in text:
        return None
    if not required:
        _check_link(path)
    tool = _parsed(path, text).get("tool")
    table = tool.get("resnet-spec") if isinstance(tool, Mapping) else None
    return None if table is None else (text, table)


def _text(path: Path) -> str:
    shown = shown_path(path)
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        _stop("RS701", f"cannot read the settings in {quoted(shown)}: {reason}", Span(shown))
    if len(data) > MAX_BYTES:
        _stop("RS701", f"{quoted(shown)} is larger than {MAX_BYTES:,} bytes", Span(shown))
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        _stop("RS701", f"{quoted(shown)} is not UTF-8", Span(shown), "save the file as UTF-8")


def _parsed(path: Path, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        message, line, column = str(error), 1, 1
        place = re.search(_PLACE, message)
        if place is not None:
            message = message[: place.start()]
            line, column = int(place.group(1)), int(place.group(2))
        span = Span(shown_path(path), line, column, line, column + 1)
        _stop("RS701", f"not valid TOML: {message[:1].lower()}{message[1:]}", span, text=text)


# --- reading the tables --------------------------------------------------------------------------


def _settings(path: Path, text: str, table: Any, outside: bool) -> Settings:
    shown = shown_path(path)
    reader = _Reader(shown, path.parent, text, outside)
    targets = reader.targets(table)
    if reader.report.diagnostics:
        raise SettingsError(reader.report.diagnostics, {shown: text})
    return Settings(shown, path.parent, text, targets)


class _Reader:
    """Reads the tables of one file and collects what is wrong."""

    def __init__(self, shown: str, folder: Path, text: str, outside: bool) -> None:
        self.shown, self.folder, self.outside = shown, folder, outside
        self.lines = text.splitlines()
        self.report = Report()

    def targets(self, table: Any) -> tuple[Target, ...]:
        if not isinstance(table, Mapping):
            self.report.add("RS703", "[tool.resnet-spec] must be a table", self.find("resnet-spec"))
            return ()
        for key in table:
            if key not in TOP_KEYS:
                hint = expected(key, TOP_KEYS)
                if key == "tool":
                    hint = f"in {OWN_FILE} write [[compile]]"
                self.unknown(key, self.find(key), hint)
        given = table.get("compile", [])
        if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
            self.report.add(
                "RS703",
                "'compile' must be a list of tables",
                self.find("compile"),
                help="write it as [[compile]], in pyproject.toml as [[tool.resnet-spec.compile]]",
            )
            return ()
        read = [self.target(each, self.header(number)) for number, each in enumerate(given)]
        return tuple(target for target in read if target is not None)

    def target(self, table: Mapping[str, Any], start: int) -> Target | None:
        before = len(self.report.diagnostics)
        for key in table:
            if key not in TARGET_KEYS:
                self.unknown(key, self.find(key, start), expected(key, TARGET_KEYS))
        specs = self.texts(table, "specs", start, required=True)
        backends = self.texts(table, "backends", start) or DEFAULT_BACKENDS
        out = table.get("out", DEFAULT_OUT)
        if not isinstance(out, str) or not out or "\0" in out:
            self.report.add(
                "RS703", f"'out' must name a folder, not {quoted(out)}", self.find("out", start)
            )
            return None
        self.check_within(self.folder / out, "out", out, start)
        trainer = table.get("trainer", False)
        if not isinstance(trainer, bool):
            message = f"'trainer' must be true or false, not {quoted(trainer)}"
            self.report.add("RS703", message, self.find("trainer", start))
            return None
        files = [path for pattern in specs for path in self.matches(pattern, start)]
        if len(self.report.diagnostics) > before:
            return None
        return Target(
            tuple(dict.fromkeys(files)), tuple(dict.fromkeys(backends)), self.folder / out, trainer
        )

    def texts(
        self, table: Mapping[str, Any], key: str, start: int, required: bool = False
    ) -> tuple[str, ...]:
        value = table.get(key)
        if value is None and not required:
            return ()
        is_list = isinstance(value, list) and all(isinstance(v, str) and v for v in value)
        if not is_list or not value:
            found = "is missing" if value is None else "must be a list of texts, not empty"
            example = '["specs/*.yaml"]' if key == "specs" else '["torch", "keras"]'
            where = self.find(key if value is not None else "compile", start)
            self.report.add("RS703", f"{quoted(key)} {found}", where, f"write {key} = {example}")
            return ()
        return tuple(value)

    def matches(self, pattern: str, start: int) -> list[Path]:
        """The specs that a pattern stands for; blocks and recipes are no specs (RS705)."""
        where = self.find("specs", start)
        try:
            found = patterns.matches(self.folder, pattern)
        except ValueError:
            message = f"{quoted(pattern)} is not a pattern of paths relative to this file"
            self.report.add("RS703", message, where, 'write it like "specs/**/*.yaml"')
            return []
        except patterns.TooManyFiles:
            message = f"{quoted(pattern)} searches more than {patterns.MAX_ENTRIES:,} files"
            self.report.add("RS703", message, where, "name the folder with the specs")
            return []
        files = [
            p for p in found if p.suffix in SUFFIXES and p.parent.name not in (BLOCKS, RECIPES)
        ]
        if not files:
            self.report.add(
                "RS705",
                f"no spec matches {quoted(pattern)}",
                where,
                help="patterns are relative to the folder of this file; '**' matches folders",
            )
        return [file for file in files if self.check_within(file, "specs", pattern, start)]

    def check_within(self, path: Path, key: str, value: str, start: int) -> bool:
        """RS706 for what the settings name beyond their own folder."""
        if self.outside or DISK.is_within(path, self.folder):
            return True
        self.report.add(
            "RS706",
            f"{quoted(key)} leads out of the folder of these settings: {quoted(value)}",
            self.find(key, start),
            help="use a path inside it, or allow this with --allow-outside",
        )
        return False

    def unknown(self, key: str, where: Span, hint: str) -> None:
        self.report.add("RS702", f"unknown key {quoted(key)} in the settings", where, hint)

    # - positions, which the TOML parser does not tell -

    def header(self, number: int) -> int:
        """The index of the line that opens a target, or 0."""
        opening = re.compile(r"\s*\[\[.*compile[\"']?\s*\]\]")
        found = [n for n, line in enumerate(self.lines) if opening.match(line)]
        return found[number] if number < len(found) else 0

    def find(self, key: str, start: int = 0) -> Span:
        """The position of a key at or below a line."""
        word = re.compile(rf"(?<![\w-]){re.escape(key)}(?![\w-])")
        for number, line in enumerate(self.lines[start:], start + 1):
            match = word.search(line.partition("#")[0])
            if match is not None:
                column = match.start() + 1
                return Span(self.shown, number, column, number, column + len(key))
        return Span(self.shown, start + 1, 1, start + 1, 1)


def _stop(
    code: str, message: str, span: Span, help: str | None = None, text: str | None = None
) -> NoReturn:
    sources = {} if text is None else {span.path: text}
    raise SettingsError([Diagnostic(code, message, span, help)], sources)
