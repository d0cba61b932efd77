"""Every network that comes with the package: its count, and the published one that it equals."""

from __future__ import annotations

import pytest
import zoo

from resnet_spec.library import builtin_specs

# The smallest network of each family; the whole table is a separate run, see docs/zoo.md.
COMPARED: list[tuple[str, str, str, int]] = [
    ("resnet18", "torchvision", "resnet18", 64),
    ("test_resnet", "timm", "test_resnet", 64),
    ("resnet10t", "timm", "resnet10t", 65),
    ("resnet50_gn", "timm", "resnet50_gn", 64),
    ("resnetaa34d", "timm", "resnetaa34d", 64),
    ("resnetblur18", "timm", "resnetblur18", 75),
    ("resnetrs50", "timm", "resnetrs50", 64),
    ("resnext50_32x4d", "torchvision", "resnext50_32x4d", 64),
    ("wide_resnet50_2", "torchvision", "wide_resnet50_2", 64),
    ("seresnet18", "timm", "seresnet18", 64),
    ("ecaresnext26t_32x4d", "timm", "ecaresnext26t_32x4d", 64),
    ("res2net50_48w_2s", "timm", "res2net50_48w_2s", 64),
    ("res2net50d", "timm", "res2net50d", 65),
    ("res2next50", "timm", "res2next50", 64),
    ("resnest14d", "timm", "resnest14d", 64),
    ("resnest50d_1s4x24d", "timm", "resnest50d_1s4x24d", 65),
    ("resnest50d_4s2x40d", "timm", "resnest50d_4s2x40d", 64),
    ("skresnet18", "timm", "skresnet18", 65),
    ("skresnext50_32x4d", "timm", "skresnext50_32x4d", 64),
    ("legacy_seresnet18", "timm", "legacy_seresnet18", 65),
    ("legacy_seresnext26_32x4d", "timm", "legacy_seresnext26_32x4d", 64),
    ("densenet121", "torchvision", "densenet121", 64),
    ("densenetblur121d", "timm", "densenetblur121d", 64),
    ("keras_densenet121", "keras.applications", "DenseNet121", 224),
    ("keras_resnet50", "keras.applications", "ResNet50", 224),
    ("keras_resnet50v2", "keras.applications", "ResNet50V2", 224),
    ("vgg11", "torchvision", "vgg11", 64),
    ("resnetv2_18d", "timm", "resnetv2_18d", 64),
    ("resnetv2_50x1_bit", "timm", "resnetv2_50x1_bit", 64),
    ("dpn68", "timm", "dpn68", 64),
    ("dpn48b", "timm", "dpn48b", 64),
]


def published(name: str, library: str, model: str):  # type: ignore[no-untyped-def]
    network = zoo.parity.network_of(name)
    found = [r for r in network.references if (r.library, r.model) == (library, model)]
    assert found, f"{name} does not name {model} of {library}"
    return network, found[0]


def test_counts_of_the_published_table() -> None:
    """Each reference that a spec names has exactly as many parameters as the table says."""
    expected = {(row.source, row.name): row.parameters for row in zoo.table()}
    wrong = {
        f"{name}: {reference.model}": (network.root.parameters, count)
        for name, network, reference in zoo.references()
        if (count := expected.get((reference.library, reference.model))) is not None
        and count != network.root.parameters
    }

    assert not wrong


@pytest.mark.parametrize("name", builtin_specs())
def test_every_spec_is_valid_and_states_its_count(name: str) -> None:
    network = zoo.parity.network_of(name)
    loaded = zoo.parity.load(str(name), zoo.parity.Library())

    assert loaded.model.expect is not None
    assert loaded.model.expect.parameters == network.root.parameters


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.parametrize(("name", "library", "model", "size"), COMPARED)
def test_equals_the_published_network(name: str, library: str, model: str, size: int) -> None:
    network, reference = published(name, library, model)
    found = zoo.compare(network, reference, size)

    # Rounding of float64 grows with depth; a wrong operation is wrong in the first digits.
    assert found.reference < 1e-8
    assert found.backends is not None
    assert found.backends < 1e-8
