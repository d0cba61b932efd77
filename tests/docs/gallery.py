"""The pictures in docs/pictures and the part of docs/gallery.md that shows them."""

from __future__ import annotations

from pathlib import Path

from resnet_spec.drawing import Drawing, Picture, render
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower

DOCS = Path(__file__).parents[2] / "docs"
PAGE, FOLDER = DOCS / "gallery.md", DOCS / "pictures"

# Of each family the network that shows best what it is about.
FAMILIES = {
    "resnet": "resnet50",
    "resnet_rs": "resnetrs50",
    "resnetv2": "resnetv2_50",
    "wide_resnet": "wide_resnet50_2",
    "resnext": "resnext50_32x4d",
    "res2net": "res2net50_26w_4s",
    "senet": "seresnet50",
    "legacy_senet": "legacy_seresnet50",
    "ecanet": "ecaresnet50d",
    "cbam": "cbam_resnet50",
    "sknet": "skresnet50",
    "resnest": "resnest50d",
    "densenet": "densenet121",
    "dpn": "dpn68",
    "fixup": "fixup_resnet50",
    "weighted": "weighted_resnet18",
    "highway": "highway20",
    "cifar": "resnet20",
    "keras": "keras_resnet50",
    "plain": "plain34",
    "vgg": "vgg16",
}


def drawing(name: str, library: Library) -> Drawing:
    return Drawing(lower(load(name, library)))


def pictures() -> dict[str, str]:
    """Every picture of the documentation, by the name of its file."""
    library = Library()
    found: dict[str, Picture] = {
        f"{name}.svg": drawing(name, library).page() for name in FAMILIES.values()
    }
    readme = drawing("resnet50", library)
    found["resnet50-compact.svg"] = readme.compact()
    found["resnet50-bottleneck.svg"] = readme.block("bottleneck")
    return {name: render(picture) for name, picture in found.items()}


def parts() -> dict[str, str]:
    """A heading and a picture for each family."""
    library = Library()
    entries = []
    for family, name in FAMILIES.items():
        network = drawing(name, library).figure.network
        assert network.family == family
        said = " ".join(network.description.split())
        entries.append(f"### {family}\n\n![{name}: {said}](pictures/{name}.svg)")
    return {"pictures": "\n\n".join(entries)}
