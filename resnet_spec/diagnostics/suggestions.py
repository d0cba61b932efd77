"""Suggestions for an unknown name."""

from collections.abc import Iterable

from resnet_spec.diagnostics.diagnostic import quoted


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` was probably meant to be, or of which it is all initials."""
    import difflib  # not needed by a run that finds nothing wrong

    names = sorted(candidates)
    found = [each for each in names if "_" in each and _initials(each) == name]
    found = found or difflib.get_close_matches(name[:64], names, n=1, cutoff=0.6)
    return found[0] if found else None


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))


def expected(name: str, candidates: Iterable[str], limit: int = 40) -> str:
    """A help text for a name that is none of `candidates`: the nearest, or what was possible.

    Of a name that dotted ones begin with, those.
    """
    names = sorted(candidates)
    below = [each for each in names if each.startswith(f"{name}.")]
    close = nearest(name, names)
    if below:
        names = below
    elif close is not None:
        return f"did you mean {quoted(close)}?"
    if not names:
        return "nothing is expected here"
    shown = ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
    return f"expected one of: {shown}"
