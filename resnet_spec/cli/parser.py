"""The verbs and flags of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from resnet_spec import __version__
from resnet_spec.cli.shared import UsageError

_EXAMPLES = {
    "": """examples:
  resnet-spec list                                        built-in networks
  resnet-spec init my_net.yaml                            a spec to start from
  resnet-spec check my_net.yaml                           validate it, infer every shape
  resnet-spec compile my_net.yaml                         write generated/torch and generated/keras
  resnet-spec show resnet50                               the network as a table
  resnet-spec draw resnet50 --out resnet50.svg            the network as a picture
""",
    "compile": """examples:
  resnet-spec compile resnet101 --backend torch           a built-in spec, for one framework
  resnet-spec compile my_net.yaml --set classes=10        with a change
  resnet-spec compile my_net.yaml --backend keras --stdout
  resnet-spec compile                                     everything that the settings name
  resnet-spec compile --check --diff                      for CI: exit 1 when out of date

Settings stand in pyproject.toml or resnet-spec.toml, in this folder or above:
  [[tool.resnet-spec.compile]]
  specs = ["specs/*.yaml"]
  backends = ["torch", "keras"]
  out = "generated"
""",
    "check": """examples:
  resnet-spec check specs/                                every spec and block below a folder
  resnet-spec check my_net.yaml --backend keras           what Keras can't say, too
  resnet-spec check my_net.yaml --format github
""",
    "show": """examples:
  resnet-spec show resnet50
  resnet-spec show my_net.yaml --set input.height=32 --set input.width=32
  resnet-spec show my_net.yaml --resolved                 the spec with 'extends' merged
""",
    "draw": """examples:
  resnet-spec draw resnet50 --out resnet50.svg            a page: sizes, blocks, symbols
  resnet-spec draw my_net.yaml --compact --out strip.svg  a strip for a README
  resnet-spec draw resnet50 --block bottleneck --out block.svg
  resnet-spec draw my_net.yaml --format mermaid --stdout
  resnet-spec draw my_net.yaml --out my_net.png           by a converter, where one is installed
""",
    "verify": """examples:
  resnet-spec verify my_net.yaml                          PyTorch against Keras on TensorFlow
  resnet-spec verify my_net.yaml --keras-backend jax --precision float32
  resnet-spec verify resnet18 resnet50 --format json

Exit 1 when the backends differ; the first operation that does is named with its place.
""",
    "list": """examples:
  resnet-spec list --family resnet --max-parameters 30M
  resnet-spec list 'wide_*' --format json
""",
    "weights": """examples:
  resnet-spec weights inspect resnet18.pth resnet18       does the file fit the spec?
  resnet-spec weights convert mine.pt mine.yaml --out mine.weights.h5
  resnet-spec weights import resnet50.pth resnet50 --from torchvision --out resnet50.keras
  resnet-spec weights convert resnet18.pth mine.yaml --reset-head --out mine.safetensors
""",
    "import": """examples:
  resnet-spec import resnet50.onnx --out mine.yaml --weights mine.safetensors
  resnet-spec import mine.models:build --out mine.yaml --input 3x32x32
  resnet-spec import model.onnx --out model.yaml --no-library     blocks of its own alone

Nothing is written before it is proven: the spec is the model's graph, and the compiled PyTorch
network with the model's weights gives its output.
""",
    "explain": "examples:\n  resnet-spec explain RS104\n  resnet-spec explain\n",
    "schema": """examples:
  resnet-spec schema network > network.json
  then, on a spec's first line: # yaml-language-server: $schema=network.json
""",
    "init": """examples:
  resnet-spec init my_net.yaml
  resnet-spec init my_net.yaml --from resnet50            change a built-in network
""",
}

VERBS = {
    "compile": "write the source of networks",
    "check": "validate specs and blocks, infer every shape",
    "show": "print a network as a table",
    "draw": "draw a network as a picture",
    "verify": "run what the backends write with the same numbers, and compare",
    "list": "print the built-in networks",
    "weights": "carry trained weights between frameworks, or compare a file with a spec",
    "import": "write a trained model as a spec, with its weights",
    "explain": "tell more about the code of an error",
    "schema": "print the JSON Schema of specs, blocks or recipes, for editors",
    "init": "write a small spec to start from",
}


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\ntry: {self.prog} --help")


def parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or that of one verb: a run needs no more."""
    main_parser = _Parser(
        prog="resnet-spec",
        description="Compile a YAML description of a residual network to PyTorch and Keras.",
        epilog=_EXAMPLES[""],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    main_parser.add_argument("--version", action="version", version=f"resnet-spec {__version__}")
    verbs = main_parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    builders: dict[str, Callable[[argparse.ArgumentParser], None]] = {
        "compile": _compile,
        "check": _check,
        "show": _show,
        "draw": _draw,
        "verify": _verify,
        "list": _list,
        "weights": _weights,
        "import": _import,
        "explain": _explain,
        "schema": _schema,
        "init": _init,
    }
    for name in VERBS if verb is None else (verb,):
        text = VERBS[name]
        builders[name](
            verbs.add_parser(
                name,
                help=text,
                description=f"{text[0].upper()}{text[1:]}.",
                epilog=_EXAMPLES[name],
                formatter_class=argparse.RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
        )
    return main_parser


def _compile(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "specs",
        nargs="*",
        metavar="SPEC",
        help="a file, the name of a built-in spec, or - for standard input; "
        "default: what the settings name",
    )
    verb.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help="torch, keras, ...; may be repeated; default: torch and keras",
    )
    verb.add_argument(
        "--out", metavar="DIR", help="output folder; -: print a single file; default: generated"
    )
    verb.add_argument("--trainer", action="store_true", help="write what trains the network, too")
    _set_flag(verb)
    verb.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when a file is out of date"
    )
    verb.add_argument("--diff", action="store_true", help="write nothing; print what would change")
    verb.add_argument(
        "--stdout", action="store_true", help="print a single file; the same as --out -"
    )
    verb.add_argument(
        "--force", action="store_true", help="replace files that were edited or are not ours"
    )
    _finding_flags(verb)
    verb.add_argument("--config", metavar="PATH", help="settings file to use")
    verb.add_argument("--isolated", action="store_true", help="look for no settings")
    _outside_flag(verb)


def _check(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a spec or block, a folder of them, the name of a built-in spec, or -",
    )
    verb.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help="tell what this backend can't say, too; may be repeated",
    )
    _outside_flag(verb)
    _set_flag(verb)
    _finding_flags(verb)


def _show(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("spec", metavar="SPEC", help="a file, the name of a built-in spec, or -")
    verb.add_argument(
        "--resolved", action="store_true", help="print the spec itself, 'extends' and --set merged"
    )
    _set_flag(verb)
    _format_flag(verb, ("text", "json"))
    _stdin_flag(verb)
    _color_flag(verb)


def _draw(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("spec", metavar="SPEC", help="a file, the name of a built-in spec, or -")
    verb.add_argument(
        "--out",
        metavar="FILE",
        help="what to write: .svg, .png, .mmd or .md; -: print it; default: NAME.svg",
    )
    verb.add_argument("--stdout", action="store_true", help="print it; the same as --out -")
    verb.add_argument("--compact", action="store_true", help="the strip of sections alone")
    verb.add_argument("--block", metavar="NAME", help="this block alone, with its variants")
    verb.add_argument(
        "--format",
        choices=("svg", "mermaid", "png"),
        help="default: by the ending of the file, else svg",
    )
    verb.add_argument(
        "--theme",
        choices=("auto", "light", "dark"),
        default="auto",
        help="default: auto, as whoever looks at it has chosen; a PNG is light",
    )
    _set_flag(verb)
    verb.add_argument(
        "--force", action="store_true", help="replace a file that was edited or is not ours"
    )
    verb.add_argument("--quiet", "-q", action="store_true", help="print findings alone")
    _color_flag(verb)
    _stdin_flag(verb)


def _verify(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "specs", nargs="+", metavar="SPEC", help="a file, the name of a built-in spec, or -"
    )
    verb.add_argument(
        "--backends",
        metavar="NAMES",
        help="torch and whom to compare with it: keras, flax, onnx; default: what is installed",
    )
    verb.add_argument(
        "--keras-backend",
        choices=("tensorflow", "jax", "torch"),
        default="tensorflow",
        help="what Keras computes on; default: tensorflow",
    )
    verb.add_argument(
        "--precision", choices=("float64", "float32"), default="float64", help="default: float64"
    )
    verb.add_argument(
        "--size", metavar="HxW", help="size of the images; default: the spec's, at most 64x75"
    )
    _set_flag(verb)
    _format_flag(verb, ("text", "json"))
    verb.add_argument("--quiet", "-q", action="store_true", help="print findings alone")
    _color_flag(verb)
    _stdin_flag(verb)


def _list(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("patterns", nargs="*", metavar="PATTERN", help="names, such as 'resnext*'")
    verb.add_argument("--family", metavar="NAME", help="only this family")
    verb.add_argument("--max-parameters", metavar="N", help="at most this many, such as 30M")
    _format_flag(verb, ("text", "json"))


def _weights(verb: argparse.ArgumentParser) -> None:
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("inspect", "compare a file with a spec, name by name"),
        ("convert", "write a file with the spec's names for a framework"),
        ("import", "write a published checkpoint with the spec's names"),
    ):
        action = actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        action.add_argument("file", metavar="FILE", help="safetensors, .pt, .pth, .h5 or .keras")
        action.add_argument("spec", metavar="SPEC", help="a file, a built-in spec's name, or -")
        if name != "convert":
            _naming_flags(action)
        if name == "inspect":
            action.add_argument("--all", action="store_true", help="list what fits as well")
        else:
            _adapting_flags(action)
        _set_flag(action)
        _format_flag(action, ("text", "json"))
        _color_flag(action)
        _stdin_flag(action)


def _naming_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--from",
        dest="library",
        choices=("torchvision", "timm", "keras"),
        help="whose names the file has; default: those with which most of it fits",
    )
    verb.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="FROM=TO",
        help="a rule that comes before the spec's: 'blocks.{n}=layer1.{n - 1}'; may be repeated",
    )


def _adapting_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="the new file: .pt or .pth for PyTorch, .weights.h5 or .keras for Keras, .safetensors "
        "for PyTorch or Flax",
    )
    verb.add_argument(
        "--to",
        choices=("torch", "keras", "flax"),
        help="whose names and axes the new file has; default: what its ending says, else torch",
    )
    verb.add_argument("--force", action="store_true", help="replace the file if there is one")
    verb.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32", "float64"),
        help="type of the written values; default: as in the file",
    )
    verb.add_argument(
        "--reset-head",
        action="store_true",
        help="draw what depends on the number of classes anew, as the spec states",
    )
    verb.add_argument(
        "--adapt-input",
        choices=("mean", "repeat"),
        help="fit the first kernels to another number of input channels, scale kept",
    )
    verb.add_argument(
        "--partial",
        action="store_true",
        help="drop what does not fit, and draw what is missing as the spec states",
    )
    verb.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of what is drawn; default: 0"
    )
    verb.add_argument("--quiet", "-q", action="store_true", help="print findings alone")


def _import(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "model",
        metavar="MODEL",
        help="a file of ONNX or of torch.export (.pt2), or module:function of a PyTorch model, "
        "whose code is run",
    )
    verb.add_argument("--out", required=True, metavar="FILE", help="the new spec, a .yaml file")
    verb.add_argument(
        "--weights",
        metavar="FILE",
        help="write the weights, too: .safetensors, .pt or .pth, .weights.h5 or .keras",
    )
    verb.add_argument("--name", metavar="NAME", help="of the network; default: that of the spec")
    verb.add_argument(
        "--input",
        default="3x224x224",
        metavar="CxHxW",
        help="shape of the images where the model leaves it open; default: 3x224x224",
    )
    verb.add_argument(
        "--no-library", action="store_true", help="write all blocks in the spec itself"
    )
    verb.add_argument(
        "--unfold-norms",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether convolutions with a bias had a norm that was folded; default: auto, where "
        "blocks of the library have one",
    )
    verb.add_argument("--force", action="store_true", help="replace the files if there are some")
    verb.add_argument("--quiet", "-q", action="store_true", help="print findings alone")
    _color_flag(verb)


def _explain(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("code", nargs="?", metavar="CODE", help="such as RS104; default: list all")


def _schema(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "kind",
        nargs="?",
        choices=("network", "block", "recipe"),
        default="network",
        help="default: network",
    )


def _init(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("file", metavar="FILE", help="the new file; nothing is replaced")
    verb.add_argument(
        "--from", dest="base", metavar="NAME", help="built-in spec that the new one extends"
    )


def _finding_flags(verb: argparse.ArgumentParser) -> None:
    _format_flag(verb, ("text", "json", "github"))
    verb.add_argument("--quiet", "-q", action="store_true", help="print findings alone")
    _color_flag(verb)
    _stdin_flag(verb)


def _set_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the spec: classes=10, stages.layer4.repeat=2; may be repeated",
    )


def _outside_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--allow-outside",
        action="store_true",
        help="settings may name specs and a folder to write to outside of their own folder",
    )


def _format_flag(verb: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    verb.add_argument("--format", choices=formats, default="text", help="default: text")


def _color_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="default: auto, on a terminal where NO_COLOR is not set",
    )


def _stdin_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--stdin-filename", metavar="NAME", help="file that standard input stands for"
    )
