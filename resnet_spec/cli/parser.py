"""The verbs and flags of the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from resnet_spec import __version__
from resnet_spec.cli import weights_flags
from resnet_spec.cli.examples import EXAMPLES
from resnet_spec.cli.shared import UsageError
from resnet_spec.diagnostics import nearest

VERBS = {
    "compile": "write the source code of networks",
    "check": "validate specs and blocks, infer every shape",
    "show": "print a network as a table",
    "draw": "draw a network as a picture",
    "report": "write a network as one page: picture, numbers, sources",
    "preview": "serve that page in a browser, updated at every save",
    "diff": "show what changed between two networks, and which checkpoints still load",
    "sweep": "compare variants of a network",
    "verify": "run the generated code of all backends with the same numbers, and compare",
    "list": "print the built-in networks",
    "weights": "carry trained weights between frameworks, or compare a file with a spec",
    "import": "write a trained model as a spec, with its weights",
    "explain": "explain an error code",
    "schema": "print the JSON Schema of specs, blocks or recipes, for editors",
    "init": "write a starter spec",
}

_FLAG = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\ntry: {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Tell what is not known here, where the flags of a verb are, and not in the end."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            meant = nearest(unknown[0].partition("=")[0], _FLAG.findall(self.format_usage()))
            hint = f"\ndid you mean {meant}?" if meant else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown


def _names(text: str) -> list[str]:
    """The names of a list with commas."""
    return [name.strip() for name in text.split(",")]


def parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or that of one verb: a run needs no more."""
    main_parser = _Parser(
        prog="resnet-spec",
        description="Compile a YAML description of a residual network to PyTorch, Keras and Flax.",
        epilog=EXAMPLES[""],
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
        "diff": _diff,
        "sweep": _sweep,
        "report": _report,
        "preview": _preview,
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
                epilog=EXAMPLES[name],
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
        "default: everything in the settings",
    )
    verb.add_argument(
        "--backend",
        action="extend",
        type=_names,
        default=[],
        metavar="NAMES",
        help="torch, keras, ...: a list with commas, or repeated; default: torch and keras",
    )
    verb.add_argument(
        "--out", metavar="DIR", help="output folder; -: print a single file; default: generated"
    )
    verb.add_argument("--trainer", action="store_true", help="write training scripts as well")
    _set_flag(verb)
    verb.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a file is out of date"
    )
    verb.add_argument("--diff", action="store_true", help="write nothing; print what would change")
    verb.add_argument(
        "--stdout", action="store_true", help="print a single file; the same as --out -"
    )
    verb.add_argument(
        "--force",
        action="store_true",
        help="replace files that were edited or not written by resnet-spec",
    )
    _finding_flags(verb)
    verb.add_argument("--config", metavar="PATH", help="settings file to use")
    verb.add_argument("--isolated", action="store_true", help="ignore settings files")
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
        action="extend",
        type=_names,
        default=[],
        metavar="NAMES",
        help="also report what these backends can't express: a list with commas, or repeated",
    )
    _outside_flag(verb)
    _set_flag(verb)
    _finding_flags(verb)


def _show(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("spec", metavar="SPEC", help="a file, the name of a built-in spec, or -")
    verb.add_argument(
        "--resolved", action="store_true", help="print the spec, with 'extends' and --set merged"
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
        help="the new file: .svg, .png, .mmd or .md; -: print it; default: NAME.svg",
    )
    verb.add_argument("--stdout", action="store_true", help="print it; the same as --out -")
    verb.add_argument("--compact", action="store_true", help="draw only the strip of sections")
    verb.add_argument("--block", metavar="NAME", help="draw only this block, with its variants")
    verb.add_argument(
        "--format",
        choices=("svg", "mermaid", "png"),
        help="default: from the file's ending, else svg",
    )
    verb.add_argument(
        "--theme",
        choices=("auto", "light", "dark"),
        default="auto",
        help="default: auto, the viewer's setting; a PNG is light",
    )
    _set_flag(verb)
    verb.add_argument(
        "--force",
        action="store_true",
        help="replace a file that was edited or not written by resnet-spec",
    )
    verb.add_argument("--quiet", "-q", action="store_true", help="print only findings")
    _color_flag(verb)
    _stdin_flag(verb)


def _diff(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "specs",
        nargs="*",
        metavar="SPEC",
        help="the old and the new one: files, names of built-in specs, or -; with --against any "
        "number, without any those that the settings name",
    )
    verb.add_argument(
        "--against",
        metavar="REV",
        help="compare each spec with itself at this revision of its git repository",
    )
    verb.add_argument(
        "--fail-on",
        choices=("same-function", "checkpoints-load", "load-in-part", "break"),
        metavar="CLASS",
        help="exit 1 from this class on: checkpoints-load, load-in-part or break; default: never",
    )
    verb.add_argument("--all", action="store_true", help="list every change and every tensor")
    _set_flag(verb, "change a key of the new spec: classes=10; may be repeated")
    _format_flag(verb, ("text", "json", "github", "markdown"))
    _color_flag(verb)
    _stdin_flag(verb)
    _outside_flag(verb)


def _sweep(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("spec", metavar="SPEC", help="a file, or the name of a built-in spec")
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="a key of the spec with its values: 1..8, 64..512..64 or 256,384; may be repeated, "
        "and all combinations are tried",
    )
    verb.add_argument("--where", metavar="EXPR", help="list those that fit: 'macs < 4e9'")
    verb.add_argument(
        "--sort",
        metavar="COLUMNS",
        help="order of the rows: macs, or macs:desc for the most first",
    )
    verb.add_argument("--limit", type=int, metavar="N", help="list the first N alone")
    verb.add_argument(
        "--columns", metavar="NAMES", help="what is shown; default: the keys, parameters and macs"
    )
    verb.add_argument("--sample", type=int, metavar="N", help="try N combinations by chance")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of --sample; default: 0")
    verb.add_argument(
        "--measured",
        metavar="FILE",
        help="a CSV with columns of keys and of what was measured with them, such as a latency",
    )
    verb.add_argument("--plot", metavar="FILE", help="an SVG of the rows and of their front")
    verb.add_argument(
        "--axes",
        metavar="X,Y",
        help="of the plot; less is better, with :max behind the name more; "
        "default: macs,parameters:max",
    )
    verb.add_argument("--write", metavar="DIR", help="write each row as a spec into this folder")
    verb.add_argument(
        "--force", action="store_true", help="replace files that were edited or are not ours"
    )
    _format_flag(verb, ("table", "csv", "json"))
    verb.add_argument("--quiet", "-q", action="store_true", help="print findings alone")
    _color_flag(verb)


def _report(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("spec", metavar="SPEC", help="a file, the name of a built-in spec, or -")
    verb.add_argument(
        "--out", metavar="FILE", help="the page to write; -: print it; default: NAME.html"
    )
    verb.add_argument("--stdout", action="store_true", help="print it; the same as --out -")
    _shown_backends_flag(verb)
    _set_flag(verb)
    verb.add_argument(
        "--force", action="store_true", help="replace a file that was edited or is not ours"
    )
    verb.add_argument("--quiet", "-q", action="store_true", help="print findings alone")
    _color_flag(verb)
    _stdin_flag(verb)


def _preview(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("spec", metavar="SPEC", help="a file, or the name of a built-in spec")
    verb.add_argument(
        "--port",
        type=int,
        metavar="N",
        help="where on 127.0.0.1 it is served; 0: any free one; default: 8750, else any free one",
    )
    verb.add_argument("--open", action="store_true", help="open it in a browser")
    _shown_backends_flag(verb)
    _set_flag(verb)
    verb.add_argument("--quiet", "-q", action="store_true", help="say nothing of renewals")
    _color_flag(verb)


def _shown_backends_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--backend",
        action="extend",
        type=_names,
        default=[],
        metavar="NAMES",
        help="whose source to show: a list with commas, or repeated; default: all that write it",
    )


def _verify(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "specs", nargs="+", metavar="SPEC", help="a file, the name of a built-in spec, or -"
    )
    verb.add_argument(
        "--backends",
        metavar="NAMES",
        help="torch and what to compare with it: keras, flax, onnx; default: all installed",
    )
    verb.add_argument(
        "--keras-backend",
        choices=("tensorflow", "jax", "torch"),
        default="tensorflow",
        help="the backend of Keras; default: tensorflow",
    )
    verb.add_argument(
        "--precision", choices=("float64", "float32"), default="float64", help="default: float64"
    )
    verb.add_argument(
        "--size", metavar="HxW", help="size of the images; default: the spec's, at most 64x75"
    )
    _set_flag(verb)
    _format_flag(verb, ("text", "json"))
    verb.add_argument("--quiet", "-q", action="store_true", help="print only findings")
    _color_flag(verb)
    _stdin_flag(verb)


def _list(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("patterns", nargs="*", metavar="PATTERN", help="names, such as 'resnext*'")
    verb.add_argument("--family", metavar="NAME", help="only this family")
    verb.add_argument("--max-parameters", metavar="N", help="at most this many, such as 30M")
    _format_flag(verb, ("text", "json"))


def _weights(verb: argparse.ArgumentParser) -> None:
    def of_specs(action: argparse.ArgumentParser) -> None:
        _set_flag(action)
        _stdin_flag(action)

    def of_output(action: argparse.ArgumentParser) -> None:
        _format_flag(action, ("text", "json"))
        _color_flag(action)

    weights_flags.add(verb, of_specs, of_output)


def _import(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "model",
        metavar="MODEL",
        help="a file of ONNX, of Keras (.keras, or .h5 of a whole model) or of torch.export "
        "(.pt2), or module:function of a PyTorch model, whose code is run",
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
    verb.add_argument(
        "--time-limit",
        type=float,
        default=600,
        metavar="SECONDS",
        help="for code of MODEL, each time that it is run; default: 600",
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
    verb.add_argument("file", metavar="FILE", help="the new file; must not exist")
    verb.add_argument(
        "--from", dest="base", metavar="NAME", help="built-in spec that the new one extends"
    )


def _finding_flags(verb: argparse.ArgumentParser) -> None:
    _format_flag(verb, ("text", "json", "github"))
    verb.add_argument("--quiet", "-q", action="store_true", help="print only findings")
    _color_flag(verb)
    _stdin_flag(verb)


def _set_flag(verb: argparse.ArgumentParser, help: str | None = None) -> None:
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=help
        or "change a key of the spec: classes=10, stages.layer4.repeat=2; may be repeated",
    )


def _outside_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--allow-outside",
        action="store_true",
        help="allow specs and output folders in the settings to be outside their folder",
    )


def _format_flag(verb: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    verb.add_argument(
        "--format", choices=formats, default=formats[0], help=f"default: {formats[0]}"
    )


def _color_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="default: auto, in a terminal unless NO_COLOR is set",
    )


def _stdin_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--stdin-filename", metavar="NAME", help="file name for standard input")
