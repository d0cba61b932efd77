"""From a model to a proven spec: read, find the structure, write, compare, carry the weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from resnet_spec.codegen.generate import generate
from resnet_spec.diagnostics import SpecError, counted
from resnet_spec.importing import checkpoints, sizes, zero_biases
from resnet_spec.importing.carry import COUNTER, Carried, carried
from resnet_spec.importing.errors import Unsupported, unproven, unsaid
from resnet_spec.importing.frontend.translate import translated
from resnet_spec.importing.graph import Graph
from resnet_spec.importing.lowered import flattened
from resnet_spec.importing.matching import Ambiguous, Key, counts, folded, graph_key
from resnet_spec.importing.readers.model import Model, listed
from resnet_spec.importing.structure.agreement import agreed
from resnet_spec.importing.structure.library_index import index
from resnet_spec.importing.structure.parse import chosen, others, parse
from resnet_spec.importing.structure.probing import Prober
from resnet_spec.importing.structure.roles import Roles, roles
from resnet_spec.importing.structure.vocabulary import Vocabulary, vocabulary
from resnet_spec.importing.writing.drafts import alike_as_own
from resnet_spec.importing.writing.fillers import Fillers
from resnet_spec.importing.writing.spec import Plan, Written, written
from resnet_spec.importing.writing.yaml_text import spec_text
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.lower.unused import findings

Unfold = Literal["auto", "yes", "no"]
Progress = Callable[[str], None]


class Options(NamedTuple):
    """How a model is to be written."""

    name: str
    description: str
    library: bool = True
    unfold: Unfold = "auto"


@dataclass
class Imported:
    """A spec that is the graph of a model, and the model's weights under its names."""

    text: str
    network: Network
    state: dict[str, Any]
    written: Written
    notes: list[str] = field(default_factory=list)


def imported(
    model: Model,
    options: Options,
    path: str,
    progress: Progress = lambda text: None,
    examined: Callable[[], Model] | None = None,
) -> Imported:
    """The spec of a model, to be written to `path`, and its weights.

    `examined` gives the model with what was found of it while its graph was understood. Raises
    `SpecError`: RS953 for what the language can't say, RS954 where the result is another graph,
    which is a mistake of ours.
    """
    progress(f"reading the graph: {len(model.nodes)} nodes")
    if options.unfold == "auto" and model.format in ("PyTorch", "Keras"):
        options = options._replace(unfold="no")  # nothing was folded on the way here
    try:
        read = _read(model, options, progress)
        plan, notes = _planned(read.matched, read.options, progress)
        progress("writing the spec")
        text, network, made = _first_sound(plan, read.options, path, graph_key(read.matched))
    except Unsupported as error:
        unsaid(model.shown, error)
    model = examined() if examined else model
    progress("comparing the graphs")
    values = _carried(model, read.matched, network, read.apart)
    named = checkpoints.names(model, values)
    if named.rules:
        reference = {"model": source_name(model.shown), "rename": dict(named.rules)}
        text = spec_text({**made.spec, "references": [reference]})
        lower(load(path, Library(), text=text.encode()))

    def at(size: sizes.Size) -> Graph:
        return folded(_at(made, size, path), read.apart)

    by_size = sizes.told(model, read.matched, values.layers, read.again, at)
    told = [*_told(values, plan, read.options), *_left_out(made), *by_size, *named.notes]
    notes = [*model.notes, *read.notes, *notes, *told]
    return Imported(text, network, with_counters(network, values.state), made, notes)


class _Read(NamedTuple):
    """The folded graph of a model up to its logits, and how it was read."""

    matched: Graph
    options: Options  # with `unfold` as it was decided, where the graph decides it
    biased: bool  # with zeros for the biases that folded norms had
    notes: list[str]

    @property
    def apart(self) -> bool:
        """Whether norms stay beside their convolutions."""
        return self.options.unfold == "no"

    def again(self, model: Model) -> Graph:
        """The graph of the same model for other images, read likewise."""
        found, _ = _without_softmax(translated(model)[0])
        return folded(zero_biases.given(found) if self.biased else found, self.apart)


def _read(model: Model, options: Options, progress: Progress) -> _Read:
    graph, notes = translated(model)
    read, of_the_end = _without_softmax(graph)
    if options.unfold == "auto" and any(len(op.parts) > 1 for op in folded(read).ops):
        options = options._replace(unfold="no")  # a norm stands where one would be folded
    given, of_norms = _with_folded_norms(read, options, progress)
    matched = folded(given, options.unfold == "no")
    return _Read(matched, options, given is not read, [*notes, *of_the_end, *of_norms])


_SIGMOID = "the sigmoid at its end stays: the network gives probabilities, where others give logits"


def _without_softmax(graph: Graph) -> tuple[Graph, list[str]]:
    """A graph up to its logits, which are what networks give here."""
    last = graph.producers().get(graph.output)
    if last is not None and last.kind == "sigmoid":
        return graph, [_SIGMOID]
    if last is None or last.kind != "softmax" or last.attributes["groups"]:
        return graph, []
    graph.output = last.inputs[0]
    graph.sort()
    return graph, ["the softmax at its end is left out: networks give logits"]


# --- structure -----------------------------------------------------------------------------------


def _with_folded_norms(
    graph: Graph, options: Options, progress: Progress
) -> tuple[Graph, list[str]]:
    """A graph with zeros for the biases that folded norms of an untrained model had, if it is one.

    With `auto` it is one if blocks of the library are its parts by that alone.
    """
    if options.unfold == "no" or not zero_biases.are_left_out(graph):
        return graph, []
    given = zero_biases.given(graph)
    if options.unfold == "yes":
        return given, []
    plans = (_planned(folded(each), options, progress)[0] for each in (graph, given))
    if not any(next(plans).taken) and next(plans).unfold:
        return given, [f"{zero_biases.TOLD}and they are read as such (--unfold-norms no: as none)"]
    return graph, [f"{zero_biases.TOLD}if it had any (--unfold-norms yes: with norms)"]


def _planned(matched: Graph, options: Options, progress: Progress) -> tuple[Plan, list[str]]:
    """The parts of a folded graph, and whether its biases are norms that were folded."""
    folds = options.unfold != "no"
    found = roles(matched, folds)
    prober = Prober(found, options.unfold == "no")
    words, known = Vocabulary((), {}, {}), {}
    if options.library:
        progress("looking up the blocks that it may hold")
        words = vocabulary()
        known = index(prober, matched, words)
    parts = parse(matched, prober, known, words, found.eps, progress)
    taken = agreed(matched, parts, chosen(parts, words), prober, words)
    if not folds:
        parts, taken = alike_as_own(matched, parts, taken)
    unfold = options.unfold == "yes" or (folds and any(each is not None for each in taken))
    if not unfold:
        found = _as_stated(found, matched, taken)
    fillers = Fillers(prober, words) if options.library else None
    plan = Plan(matched, parts, taken, found, prober, unfold, True, fillers)
    return plan, others(parts, taken)


def _as_stated(found: Roles, matched: Graph, taken: Any) -> Roles:
    """Without blocks of the library, a bias that every convolution has is said once."""
    convs = [op for op in matched.ops if op.kind == "conv"]
    if found.bias or any(taken) or len(convs) < 2:
        return found
    if not all(op.parts[0].attributes["bias"] for op in convs):
        return found
    conv = {**found.defaults.get("conv", {}), "bias": True}
    return replace(found, bias=True, defaults={**found.defaults, "conv": conv})


def _first_sound(plan: Plan, options: Options, path: str, key: Key) -> tuple[str, Network, Written]:
    """The spec with the model's names, or without them where the language can't take them.

    Where uses of a block of the spec's own differ in more than arguments can say, each is a block.
    """
    first: SpecError | None = None
    for hints, apart in ((True, False), (False, False), (True, True), (False, True)):
        made = written(plan._replace(hints=hints, apart=apart), options.name, options.description)
        try:
            text, network = _as_vector(made, path)
        except SpecError as error:
            first = first or error
            continue
        if apart or graph_key(folded(flattened(network), plan.prober.apart)) == key:
            return text, network, made
    assert first is not None
    found = first.diagnostics[0]
    if found.code == "RS503":  # names of layers were left out: it is the network's own
        raise SpecError([found._replace(help="choose another one: --name")])
    unproven(path, f"the spec that was found is not sound: {found.code}: {found.message}", _REPORT)


def _as_vector(made: Written, path: str) -> tuple[str, Network]:
    """The text and the network of a spec, which gives one number for each class and no map."""
    text = spec_text(made.spec)
    network = _lowered(text, path)
    if network.root.output.height is not None:
        made.spec["head"].append({"flatten": "flatten", "height": 1, "width": 1})
        text = spec_text(made.spec)
        network = _lowered(text, path)
    return text, network


def _at(made: Written, size: sizes.Size, path: str) -> Graph:
    """The graph of a spec for images of another size."""
    given = {**made.spec["input"], "height": size[0], "width": size[1]}
    text = spec_text({**made.spec, "input": given})
    return flattened(lower(load(path, Library(), text=text.encode())))


def _lowered(text: str, path: str) -> Network:
    """A spec as `check` sees it."""
    loaded = load(path, Library(), text=text.encode())
    network = lower(loaded)
    unused = findings(loaded, network)
    if unused:
        raise SpecError(unused)
    generate(network, ("torch",))
    return network


# --- proof ---------------------------------------------------------------------------------------


def _carried(model: Model, graph: Graph, network: Network, apart: bool) -> Carried:
    """The model's weights along the way from one graph to the other, which are one."""
    ours = folded(flattened(network), apart)
    if graph_key(graph) != graph_key(ours):
        more, fewer = counts(ours) - counts(graph), counts(graph) - counts(ours)
        differ = "; ".join(
            f"{name} {', '.join(sorted(each)[:3])}"
            for name, each in (("only in the spec:", more), ("only in the model:", fewer))
            if each
        )
        reason = differ or "its operations are connected otherwise"
        unproven(model.shown, f"the spec that was found is another graph: {reason}", _REPORT)
    try:
        return carried(graph, ours)
    except Ambiguous:
        unproven(model.shown, "the weights could not be told apart by the graph", _REPORT)


_REPORT = "that is a mistake of ours: please report it with the model's graph"


def with_counters(network: Network, state: Mapping[str, Any]) -> dict[str, Any]:
    """A state in the network's order, each norm's counter behind its statistics."""
    import numpy

    result: dict[str, Any] = {}
    for name, operation in network.operations():
        for parameter in operation.parameters:
            result[f"{name}.{parameter.name}"] = state[f"{name}.{parameter.name}"]
        if operation.primitive.name == "batch_norm":
            result[f"{name}.{COUNTER}"] = numpy.array(0, numpy.int64)
    return result


def _told(values: Carried, plan: Plan, options: Options) -> list[str]:
    """Where the graph left a choice, and what was done."""
    notes = []
    if values.unfolded:
        notes.append(
            f"{counted(values.unfolded, 'convolution has', 'convolutions have')} a bias and no "
            "norm, which is how exporters fold the two: read as folded (--unfold-norms no: as is)"
        )
    elif options.unfold == "auto" and plan.roles.bias and not plan.graph.norms():
        notes.append(
            "every convolution has a bias, and none a norm: exporters fold the two, so there may "
            "have been norms (--unfold-norms yes: with norms)"
        )
    if values.shifted:
        notes.append(
            f"{counted(values.shifted, 'bias', 'biases')} before norms went into the norms' means, "
            "as weights convert --fold-biases does it with later checkpoints"
        )
    return notes


def _left_out(made: Written) -> list[str]:
    """Dropouts within blocks of the library, and between what the language has as one."""
    if not made.left_out:
        return []
    shown = listed([f"{each.place} of {each.rate:g}" for each in made.left_out])
    return [f"dropout is left out: {shown}"]


def source_name(shown: str) -> str:
    """A model by its file or function, as the spec says where it comes from."""
    name = Path(shown).name
    return "".join(each if each.isprintable() else "_" for each in name)[:80]


def network_name(text: str) -> str:
    """The name of a file or function as that of a network."""
    name = re.sub(r"\W+", "_", text.lower()).strip("_")
    return f"net_{name}" if not name or name[0].isdigit() else name
