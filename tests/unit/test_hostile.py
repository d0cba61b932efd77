"""Specs that are wrong, huge or malicious: the compiler says so, or writes sound code."""

from __future__ import annotations

import ast
import contextlib
import copy
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st

from resnet_spec.codegen.generate import generate
from resnet_spec.diagnostics import SpecError
from resnet_spec.diagnostics.render import FORMATS, render
from resnet_spec.ir.summary import expectations
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

BACKENDS = ("json", "keras", "torch")
SECONDS = 20.0  # of the processor: no bound of speed, machines are noisy; what hangs takes hours
MEGABYTES = 600
LIBRARY = Library()


class TooSlow(Exception):
    """A compilation that does not end in time."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what takes far longer than `seconds`, and fail what takes longer."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    started = time.process_time()
    if threading.current_thread() is not threading.main_thread():
        yield
    else:
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 3 * seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert time.process_time() - started < seconds


def compiled(data: bytes, name: str = "spec.yaml") -> dict[str, str]:
    """The generated Python by backend; raises `SpecError` as the compiler does."""
    loaded = load(name, LIBRARY, text=data)
    network = lower(loaded)
    if found := expectations(loaded, network):
        raise SpecError(found)
    files = generate(network, BACKENDS)
    return {path.parts[0]: text for path, text in files.items()}


def survives(data: bytes) -> None:
    """Compile: every error is reported, and what is written is valid Python."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with time_limit(SECONDS):
        try:
            made = compiled(data)
        except SpecError as error:
            assert error.diagnostics
            for style in FORMATS:
                assert render(error.diagnostics, LIBRARY.sources, style, color=True)
        else:
            for backend in ("keras", "torch"):
                compile(made[backend], backend, "exec", dont_inherit=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEGABYTES * 1024


@given(strategies.spoiled_texts())
def test_spoiled_texts(data: bytes) -> None:
    survives(data)


@given(strategies.spoiled_trees())
def test_spoiled_trees(data: bytes) -> None:
    survives(data)


def test_what_the_strategies_begin_with_is_valid() -> None:
    for tree in strategies.whole_specs():
        assert set(compiled(strategies.dumped(tree).encode())) == set(BACKENDS)


# --- texts ---------------------------------------------------------------------------------------

HARMLESS = "A text"


def network(text: str) -> bytes:
    """A network that holds a text in every field that takes any text."""
    tree = copy.deepcopy(
        next(tree for tree in strategies.whole_specs() if tree["name"] == "resnest")
    )
    tree |= {"description": text, "source": text[:200], "family": text[:200]}
    for block in tree["blocks"].values():
        block |= {"description": text, "source": text[:200]}
        for argument in block.get("args", {}).values():
            if isinstance(argument, dict):
                argument["description"] = text[:200]
    return strategies.dumped(tree).encode()


def skeleton(code: str) -> str:
    """The syntax tree of a module without its docstrings."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                first.value.value = ""
    return ast.dump(tree)


def skeletons(data: bytes, name: str = "spec.yaml") -> dict[str, str]:
    made = compiled(data, name)
    return {backend: skeleton(made[backend]) for backend in ("keras", "torch")}


@given(st.text(min_size=1, max_size=250) | st.sampled_from(strategies.HOSTILE_TEXTS))
@example('"""\nimport os\nx = """')
@example("\\")
@example('ends with a quote"')
@example("0E0")
def test_texts_stay_texts(text: str) -> None:
    """No description gets out of its docstring, however it is quoted or wrapped."""
    if not text.strip():
        with pytest.raises(SpecError) as raised:
            compiled(network(text))
        assert {found.code for found in raised.value.diagnostics} == {"RS103"}
    else:
        assert skeletons(network(text)) == skeletons(network(HARMLESS))


@pytest.mark.parametrize("text", strategies.HOSTILE_TEXTS)
def test_the_path_of_a_spec_stays_in_its_comment(text: str) -> None:
    data = network(HARMLESS)
    assert skeletons(data, f"{text}.yaml") == skeletons(data)


@pytest.mark.parametrize("text", strategies.HOSTILE_TEXTS)
def test_the_name_of_a_file_stays_in_its_comment(text: str, tmp_path: Path) -> None:
    file = tmp_path / f"{text.replace('/', '')[:200]}.yaml"
    try:
        file.write_bytes(network(HARMLESS))
    except (OSError, ValueError):
        pytest.skip("no file can be called so")
    made = generate(lower(load(str(file), Library())), ("keras", "torch"))
    found = {path.parts[0]: skeleton(code) for path, code in made.items()}
    assert found == skeletons(network(HARMLESS))


@pytest.mark.parametrize("text", [each for each in strategies.HOSTILE_TEXTS if each.strip()])
def test_a_setting_stays_in_its_comment(text: str) -> None:
    """`--set` is repeated in the header, as part of the command that makes the file again."""
    setting = f"description={strategies.dumped(text).removesuffix('...' + chr(10)).strip()}"
    loaded = load("spec.yaml", LIBRARY, (setting,), text=network(HARMLESS))
    made = generate(lower(loaded), ("keras", "torch"))
    found = {path.parts[0]: skeleton(code) for path, code in made.items()}
    assert found == skeletons(network(HARMLESS))


NAMES = {
    "a network": "name: {}",
    "a class": "class_name: {}",
    "a constant": "let: {{{}: 3}}",
    "a block": "blocks: {{{}: {{description: A block, layers: [act]}}}}",
    "an argument": "blocks: {{b: {{description: A block, args: {{{}: 3}}, layers: [act]}}}}",
    "a slot": "blocks: {{b: {{description: A block, slots: {{{}: none}}, layers: [act]}}}}",
    "a value": "blocks: {{b: {{description: A block, let: {{{}: 3}}, layers: [act]}}}}",
    "a layer": "stem: [{{conv: {}, filters: 8, kernel: 3}}]",
    "a reference": "stem: [{{conv: c, filters: 8, kernel: 3, as: {}}}]",
    "a counter": "stem: [{{for: {}, count: 2, layers: [{{act: act1}}]}}]",
    "a stage": "stages: [{{name: {}, block: basic, filters: 8}}]",
    "repeated blocks": "stages: [{{name: s, block: basic, filters: 8, repeat: 2, names: {}}}]",
}


@pytest.mark.parametrize("field", NAMES)
@pytest.mark.parametrize("text", strategies.HOSTILE_TEXTS)
def test_names_are_refused(field: str, text: str) -> None:
    quoted = strategies.dumped({"key": text}).strip().removeprefix("key: ")
    line = NAMES[field].format(quoted.replace("\n ", ""))
    rest = {
        "spec_version": "spec_version: 1",
        "name": "name: net",
        "description": "description: A net",
        "stages": "stages: [{name: s, block: basic, filters: 8}]",
    }
    rest.pop(line.partition(":")[0], None)
    with pytest.raises(SpecError) as raised:
        compiled("\n".join([*rest.values(), line, ""]).encode())
    codes = {found.code for found in raised.value.diagnostics}
    assert codes <= {"RS002", "RS103", "RS105", "RS106", "RS201", "RS202"}


# --- size ----------------------------------------------------------------------------------------

SIZES = {
    "many layers": "stem:\n" + "  - act\n" * 2_000,
    "many constants": "let:\n" + "".join(f"  a{k}: 3\n" for k in range(8_000)),
    "many mistakes": "let:\n" + "".join(f"  a{k}: b{k}\n" for k in range(4_000)),
    "many keys": "".join(f"key{k}: 3\n" for k in range(4_000)),
    "a long line": "let: {" + ", ".join(f"a{k}: 3" for k in range(5_000)) + "}\n",
    "aliases of aliases": "let:\n  a0: &a0 [x]\n"
    + "".join(f"  a{k}: &a{k} [*a{k - 1}]\n" for k in range(1, 300)),
    "slots of slots": "blocks:\n"
    + "".join(
        f"  b{k}: {{description: B, slots: {{s: b{k + 1}, t: b{k + 1}}}, "
        "layers: [{slot: s}, {slot: t}]}\n"
        for k in range(20)
    )
    + "  b20: {description: B, layers: [act]}\ndefaults: {act: b0}\n",
    "blocks of blocks": "blocks:\n"
    + "".join(
        f"  b{k}: {{description: B, args: {{f: 1}}, layers: "
        f"[{{block: b{k + 1}, name: l, f: 2 * f}}, {{block: b{k + 1}, name: r, f: 2 * f + 1}}]}}\n"
        for k in range(20)
    )
    + "  b20: {description: B, args: {f: 1}, layers: [act]}\nstem: [{block: b0, name: b}]\n",
    "values in values": "blocks:\n  b:\n    description: B\n    args: {f: 1}\n    let:\n"
    + "      a0: f\n"
    + "".join(f"      a{k}: a{k - 1} % 7 + a{k - 1} // 3 * (a{k - 1} - 1)\n" for k in range(1, 15))
    + "    layers: [{conv: c, filters: 8 + a14 % 2, kernel: 3}]\n"
    + "stem: [{block: b, name: l, f: 16}, {block: b, name: r, f: 29}]\n",
    "arguments in arguments": "blocks:\n"
    + "".join(
        f"  b{k}: {{description: B, args: {{f: int}}, "
        f"layers: [{{block: b{k + 1}, name: n, f: f // 2 + f - f // 2 % 7}}]}}\n"
        for k in range(12)
    )
    + "  b12: {description: B, args: {f: int}, "
    + "layers: [{conv: c, filters: 8 + f % 2, kernel: 3}]}\n"
    + "stem: [{block: b0, name: l, f: 16}, {block: b0, name: r, f: 29}]\n",
    "layers without names": "blocks:\n  b: {description: B, layers: ["
    + ", ".join(["act"] * 8_000)
    + "]}\nstem: [{block: b, name: b}]\n",
    "loops of nothing": "stem:\n  - for: a\n    count: 2000\n    layers:\n"
    "      - {for: b, count: 2000, layers: []}\n",
}


@pytest.mark.parametrize("size", SIZES)
def test_large_specs(size: str) -> None:
    stages = "stages: [{name: s, block: basic, filters: 8}]\n"
    head = "spec_version: 1\nname: net\ndescription: A net\ninput: {height: 64, width: 64}\n"
    survives((head + stages + SIZES[size]).encode())
