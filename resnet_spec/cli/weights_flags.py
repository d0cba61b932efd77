"""The actions of `weights` and their flags."""

from __future__ import annotations

import argparse
from collections.abc import Callable

Adds = Callable[[argparse.ArgumentParser], None]
_ACTIONS = {
    "inspect": "compare a file with a spec, name by name",
    "convert": "write a file with the spec's names for a framework",
    "import": "write a published checkpoint with the spec's names",
    "verify": "compare what the network computes with the source of its weights",
    "match": "list the built-in networks that a file may be of",
}


def add(verb: argparse.ArgumentParser, of_specs: Adds, of_output: Adds) -> None:
    """The actions; the flags that other verbs have, too, are of what reads a spec, and of all."""
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in _ACTIONS.items():
        action = actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        action.add_argument(
            "file",
            metavar="FILE",
            help="safetensors, .pt, .pth, .h5, .keras, .onnx, .npz, an index of parts, or a "
            "checkpoint of TensorFlow",
        )
        if name == "match":
            _match_flags(action)
        else:
            action.add_argument("spec", metavar="SPEC", help="a file, a built-in spec's name, or -")
            _flags(name, action)
            of_specs(action)
        of_output(action)


def _flags(name: str, action: argparse.ArgumentParser) -> None:
    """Those of an action that reads a spec."""
    _naming_flags(action, published=name != "convert")
    if name == "inspect":
        action.add_argument("--all", action="store_true", help="list what fits as well")
    elif name == "verify":
        action.add_argument(
            "--against",
            required=True,
            metavar="MODEL",
            help="what is run: .onnx, .keras, .h5, .pt2 or TorchScript, whose programs run; or "
            "an .npz with the arrays 'input' and 'output'",
        )
    else:
        _adapting_flags(action)
    if name != "inspect":
        _tolerance_flag(action)
        action.add_argument("--quiet", "-q", action="store_true", help="print findings alone")
    _transforming_flags(action)


def _tolerance_flag(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        metavar="X",
        help="how far outputs may be from the source's, relative to the largest; default: 1e-4",
    )


def _match_flags(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--probe",
        metavar="NPZ",
        help="the arrays 'input' and 'output': images, and what the source makes of them",
    )
    _state_flag(action)
    _tolerance_flag(action)


def _transforming_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--flatten-order",
        choices=("hwc", "chw"),
        help="in which order the file's linear layers take the values of a map",
    )
    verb.add_argument(
        "--kernel-order",
        choices=("oihw", "hwio"),
        help="hwio: kernels with PyTorch's names stand as TensorFlow's do",
    )
    for flag, text in (
        ("--unfold-norms", "give norms that do nothing where the file has folded its own"),
        ("--fold-norms", "have convolutions do what the file's norms do"),
        ("--fold-biases", "take biases before norms off the means of the norms"),
        ("--trust-spec", "take the weights although the file states something else of its layers"),
    ):
        verb.add_argument(flag, action="store_true", help=text)
    verb.add_argument(
        "--input-order",
        choices=("rgb", "bgr"),
        help="bgr: the file's network takes blue, green, red, the new one red, green, blue",
    )
    for flag in ("--input-mean", "--input-std"):
        verb.add_argument(
            flag,
            metavar="NUMBERS",
            help="the file's network takes images less their mean, by their deviation, in the "
            "file's order of channels: 0.485,0.456,0.406; the new one takes them as they are",
        )


def _naming_flags(verb: argparse.ArgumentParser, published: bool) -> None:
    verb.add_argument(
        "--from",
        dest="library",
        choices=(*(("torchvision", "timm", "keras") if published else ()), "model", "spec"),
        help="whose names the file has: model is that which the spec was imported from; default: "
        "those with which most of it fits",
    )
    verb.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="FROM=TO",
        help="a rule that comes before the spec's: 'blocks.{n}=layer1.{n - 1}', 'res{s}{b:a}=...' "
        "with a letter that counts; nothing after '=' takes it off; may be repeated",
    )
    _state_flag(verb)


def _state_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--state",
        metavar="NAME",
        help="which of several states of the network; default: the average, else the raw weights",
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
    verb.add_argument(
        "--no-verify",
        action="store_true",
        help="do not run the source, where it can be run, to compare outputs",
    )
