"""Which names a spec can use, whatever the backend; each backend knows what its own files use."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterable, Sequence

from resnet_spec.diagnostics import Span, fail, quoted

MAX_NAME = 64
# What the frameworks, and what they build upon, call their modules; Python tells its own.
# fmt: off
_MODULES = frozenset((
    "absl", "aiofiles", "array_record", "astunparse", "attr", "certifi", "charset_normalizer",
    "chex", "clang", "colorama", "datasets", "etils", "filelock", "flatbuffers", "flax", "fsspec",
    "functorch", "gast", "google", "grain", "grpc", "h5py", "humanize", "idna",
    "importlib_resources", "isympy",
    "jax", "jaxlib", "jinja2", "keras", "libclang", "markdown", "markdown_it", "markupsafe",
    "matplotlib", "mdurl", "ml_dtypes", "mpmath", "msgpack", "namex", "nest_asyncio", "networkx",
    "numpy", "onnx", "onnxruntime", "opt_einsum", "optax", "optree", "orbax", "packaging", "pandas",
    "pasta", "pip", "pkg_resources", "protobuf", "psutil", "pydantic", "pygments", "requests",
    "resnet_spec", "rich", "safetensors", "scipy", "setuptools", "simplejson", "six", "sympy",
    "tensorboard", "tensorflow", "tensorstore", "termcolor", "toolz", "torch", "torchaudio",
    "torchgen", "torchvision", "tqdm", "tree", "treescope", "triton", "typing_extensions",
    "urllib3", "werkzeug", "wheel", "wrapt", "yaml", "zarr", "zipp",
))
# fmt: on
_NUMBER = r"(?:-?[0-9][-+.0-9e]*|True|False)"  # what an expression in a name may spell
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]*")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")


def check_identifier(name: str, span: Span, what: str) -> str:
    """A name that becomes a variable or a function: lower case, not a keyword."""
    if not _IDENTIFIER.fullmatch(name) or len(name) > MAX_NAME:
        fail(
            "RS105",
            f"{quoted(name)} can't name {what}",
            span,
            help="use lower-case letters, digits and '_', a letter first, "
            f"at most {MAX_NAME} characters",
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        fail(
            "RS105",
            f"{quoted(name)} can't name {what}: it is a Python keyword",
            span,
            help=f"use another name: {name}_",
        )
    return name


def check_network(name: str, span: Span) -> str:
    """A network's name, which is also the name of its function and of its module.

    Python searches the folder of a program first: everything would import a `json.py` there.
    """
    check_identifier(name, span, "a network")
    if name in sys.stdlib_module_names or name in _MODULES:
        fail(
            "RS105",
            f"{quoted(name)} can't name a network: its file would be imported instead of the "
            f"module {quoted(name)}",
            span,
            help=f"use another name: {name}_net",
        )
    return name


def check_class(name: str, span: Span) -> str:
    """A name that becomes a class: letters and digits, a capital first."""
    if not _CLASS.fullmatch(name) or len(name) > MAX_NAME or keyword.iskeyword(name):
        fail(
            "RS105",
            f"{quoted(name)} can't name a class",
            span,
            help="use letters and digits, a capital first: ResNet50",
        )
    return name


def check_path(name: str, span: Span) -> str:
    """A layer's dotted name: each part becomes an attribute, a list index or a key."""
    what = f"{quoted(name)} can't name a layer"
    parts = name.split(".")
    for part in parts:
        if keyword.iskeyword(part):
            message = f"{what}: {quoted(part)} is a Python keyword"
            other = ".".join(f"{each}_" if keyword.iskeyword(each) else each for each in parts)
            fail("RS105", message, span, help=f"use another name: {other}")
        if not _PART.fullmatch(part):
            hint = "use letters, digits and '_', with '.' between parts: conv1, downsample.0"
            fail("RS105", what, span, hint)
    if len(name) > MAX_NAME:
        fail("RS105", f"{what}: it has more than {MAX_NAME} characters", span)
    return name


def class_name(name: str) -> str:
    """`squeeze_excitation` to `SqueezeExcitation`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def check_own_class(name: str, span: Span, what: str) -> str:
    """The class of what has no `class_name`; RS105 for `none`, whose class would be `None`."""
    made = class_name(name)
    if keyword.iskeyword(made):
        fail(
            "RS105",
            f"{quoted(name)} can't name {what}: its class would be called {quoted(made)}",
            span,
            help="use another name, or give it a class_name",
        )
    return made


class FirstParts:
    """The first parts of dotted names; an expression in a name stands for any number."""

    def __init__(self, names: Iterable[Sequence[object]]) -> None:
        self.fixed: set[str] = set()
        self.patterns: list[re.Pattern[str]] = []
        for parts in names:
            first = _first_part(parts)
            if all(isinstance(part, str) for part in first):
                self.fixed.add("".join(map(str, first)))
            else:
                texts = (re.escape(each) if isinstance(each, str) else _NUMBER for each in first)
                self.patterns.append(re.compile("".join(texts)))

    def __contains__(self, name: str) -> bool:
        return name in self.fixed or any(each.fullmatch(name) for each in self.patterns)


def _first_part(parts: Sequence[object]) -> list[object]:
    found: list[object] = []
    for part in parts:
        if isinstance(part, str) and "." in part:
            return [*found, part.partition(".")[0]]
        found.append(part)
    return found
