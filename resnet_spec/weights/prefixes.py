"""The names of a file without what programs put before them: `module.`, `model.`, `backbone.`, any.

A beginning is taken off where more names of the file are the network's without it than with it.
What wrappers put within a name, such as `_orig_mod`, is taken out wherever it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from resnet_spec.diagnostics import quoted
from resnet_spec.weights.checkpoint import Checkpoint, Stated, Tensor
from resnet_spec.weights.entries import Entry
from resnet_spec.weights.naming import Naming, known, names, ours

# Modules that hold a module, and add their own name for it to those of its tensors.
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_MAX_PARTS = 6  # of a beginning
_COUNTER = "n_averaged"  # how many states an average is of, which stands beside the names


def readings(
    checkpoint: Checkpoint, naming: Naming, wanted: Mapping[str, Entry]
) -> Iterator[Checkpoint]:
    """The file as it is, by its other names, and each without what stands before the names."""
    for each in (checkpoint, *_by_paths(checkpoint)):
        yield each
        short = _without_wrappers(each, wanted)
        prefix = _prefix(short or each, naming, wanted)
        if prefix is not None:
            yield _without(short or each, prefix)
        elif short is not None:
            yield short


def _by_paths(checkpoint: Checkpoint) -> Iterator[Checkpoint]:
    """The file by the places of its layers, where those say more than their names."""
    if not checkpoint.paths or checkpoint.paths == tuple(t.name for t in checkpoint.tensors):
        return
    new = {
        tensor.name.rpartition("/")[0]: path.rpartition("/")[0]
        for tensor, path in zip(checkpoint.tensors, checkpoint.paths, strict=True)
    }
    tensors = zip(checkpoint.tensors, checkpoint.paths, strict=True)
    yield checkpoint._replace(
        tensors=tuple(tensor._replace(name=path) for tensor, path in tensors),
        stated=_stated(checkpoint, lambda layer: new.get(layer, layer)),
        notes=(*checkpoint.notes, "layers are named by their place in the model"),
        paths=(),
    )


def _without_wrappers(checkpoint: Checkpoint, wanted: Mapping[str, Entry]) -> Checkpoint | None:
    """The file without the names of wrappers; None where there are none."""
    if checkpoint.layout == "keras":
        return None
    own = {part for name in wanted for part in name.split(".")}
    found = {part for tensor in checkpoint.tensors for part in tensor.name.split(".")[:-1]}
    there = [part for part in _WRAPPERS if part in found and part not in own]
    if not there:
        return None

    def short(name: str) -> str:
        return ".".join(part for part in name.split(".") if part not in there)

    listed = " and ".join(quoted(f"{part}.") for part in there)
    held = [short(each.name) != each.name for each in checkpoint.tensors if not _counts(each)]
    return _renamed(checkpoint, short, _taken(listed, held, len(there)))


def _prefix(checkpoint: Checkpoint, naming: Naming, wanted: Mapping[str, Entry]) -> str | None:
    """The beginning without which most names are the network's; None for none."""
    is_ours = known(checkpoint, wanted)
    votes: Counter[str] = Counter()
    for name in names(checkpoint):
        parts = name.split(".")
        for count in range(min(len(parts), _MAX_PARTS + 1)):
            if ours(".".join(parts[count:]), checkpoint, naming) in is_ours:
                votes["".join(f"{part}." for part in parts[:count])] += 1
    if not votes:
        return None
    best, most = votes.most_common(1)[0]
    return best if best and most > votes[""] else None


def _without(checkpoint: Checkpoint, prefix: str) -> Checkpoint:
    """The file with a beginning taken off the names that have it."""
    written = prefix.replace(".", "/") if checkpoint.layout == "keras" else prefix
    held = [tensor.name.startswith(written) for tensor in checkpoint.tensors if not _counts(tensor)]
    note = _taken(quoted(prefix), held)
    return _renamed(checkpoint, lambda name: name.removeprefix(written), note)


def _taken(listed: str, held: Sequence[bool], number: int = 1) -> str:
    """The note for prefixes, and for each name whether it had one."""
    every = "every name" if all(held) else f"{sum(held):,} of {len(held):,} names"
    return f"{listed} {'was' if number == 1 else 'were'} taken off {every}"


def _counts(tensor: Tensor) -> bool:
    return tensor.name == _COUNTER and tensor.shape == ()


def _renamed(checkpoint: Checkpoint, short: Callable[[str], str], note: str) -> Checkpoint:
    tensors = tuple(
        tensor._replace(name=short(tensor.name))
        for tensor in checkpoint.tensors
        if not _counts(tensor)
    )
    return checkpoint._replace(
        tensors=tensors,
        stated=_stated(checkpoint, short),
        notes=(*checkpoint.notes, note),
    )


def _stated(checkpoint: Checkpoint, short: Callable[[str], str]) -> Stated:
    layers = {short(layer): said for layer, said in checkpoint.stated.layers.items()}
    return checkpoint.stated._replace(layers=layers)
