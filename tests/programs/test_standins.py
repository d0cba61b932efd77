"""The emitted PyTorch and Keras, run without a framework, performs the operations of the IR."""

from __future__ import annotations

import subprocess
import sys

import pytest
import texts
from standins import differences
from standins.expected import expected
from standins.torch_run import run_torch


@pytest.mark.parametrize("name", texts.NAMES)
def test_every_network_is_what_the_spec_says(name: str) -> None:
    network = texts.network_of(name)
    for backend, text in texts.texts_of(network).items():
        assert differences(text, network, backend) == []


@pytest.mark.parametrize("name", [*texts.NAMES[::12], *texts.NAMES[-27::3]])
def test_so_it_is_with_other_numbers_of_classes_and_channels(name: str) -> None:
    for backend, text in texts.texts_of(texts.network_of(name)).items():
        assert differences(text, texts.wider(name), backend, given=True) == []


def test_children_in_a_row_are_the_network() -> None:
    """Each run compares the two: here, that it does for all networks but a few.

    So it is with the maps of `feature_info`, which IntermediateLayerGetter gets by the children.
    """
    for name in texts.NAMES[::6]:
        network = texts.network_of(name)
        run = run_torch(texts.text_of(network, "torch"), expected(network), given=False)
        assert run.children_are_the_network, name
        assert run.children_give_the_maps, name


def test_no_framework_is_imported() -> None:
    program = (
        "import sys; sys.path[:0] = ['tests/support', 'tests/programs']\n"
        "import texts, standins\n"
        "network = texts.network_of('resnet18')\n"
        "for backend in texts.BACKENDS:\n"
        "    text = texts.text_of(network, backend)\n"
        "    assert standins.differences(text, network, backend) == []\n"
        "assert not {'torch', 'keras', 'tensorflow', 'jax', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=texts.ROOT, timeout=60)
