"""`verify`: its parts by themselves, and whole runs on small networks."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import parity
import pytest

from resnet_spec import cli
from resnet_spec.cli import verify as command
from resnet_spec.ir import Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower
from resnet_spec.primitives import PRIMITIVES
from resnet_spec.verify import compare, float32, initialization, optimizers, random_inputs
from resnet_spec.verify.align import IMAGES, Node, align
from resnet_spec.verify.measure import PEAK, Measurements, Row
from resnet_spec.verify.optimizers import Recipe
from resnet_spec.verify.plan import (
    ENOUGH,
    Plan,
    PlannedOperation,
    Tensor,
    memory,
    normalized,
    plan_of,
)
from resnet_spec.verify.run import Verification, sources_of
from resnet_spec.verify.session import Session

SMALL = str(parity.SPECS / "blur.yaml")
ALL_OPERATIONS = [str(parity.SPECS / f"{name}.yaml") for name in parity.OPERATIONS]


# --- the plan ------------------------------------------------------------------------------------


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan, sites = plan_of(parity.network_of(SMALL), "float64")
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan
    assert list(sites) == [operation.name for operation in plan.operations]


def test_a_site_tells_the_uses_that_led_there() -> None:
    _, sites = plan_of(parity.network_of("resnet50"), "float64")
    span, uses = sites["layer2.0.downsample.0"]
    assert span.path == "specs/blocks/projection.yaml"
    assert [use.text for use in uses] == [
        "layer2.0", "block bottleneck", "layer2.0.downsample", "block projection",
    ]  # fmt: skip


def test_the_values_of_a_plan_are_those_of_the_graph() -> None:
    plan, _ = plan_of(parity.network_of("resnet18"), "float64")
    by_name = {operation.name: operation for operation in plan.operations}
    joined = by_name["layer2.0.add"]
    made = (by_name["layer2.0.bn2"].outputs[0], by_name["layer2.0.downsample.1"].outputs[0])
    assert joined.inputs == made
    assert by_name["conv1"].inputs == (0,)


@pytest.mark.parametrize(
    ("name", "height", "batch"),
    [("resnet18", 64, 2), ("resnet18", 32, 8), ("skresnet18", 64, 8), ("resnet18_gn", 32, 2)],
)
def test_every_norm_sees_enough_values(name: str, height: int, batch: int) -> None:
    size = (f"input.height={height}", f"input.width={height}")
    plan, _ = plan_of(lower(load(name, Library(), size)), "float64")
    norms = [each for each in plan.operations if any(not t.trainable for t in each.tensors)]
    assert plan.batch == batch
    assert all(normalized(plan, norm) >= ENOUGH for norm in norms)


def test_drawn_numbers_hide_nothing() -> None:
    plan, _ = plan_of(parity.network_of("resnet18"), "float64")
    values = random_inputs.weights(plan, seed=0)
    assert values.keys() == {name for name, _ in plan.tensors()}
    for name, value in values.items():
        assert np.unique(value).size == value.size, name
        assert not (value == 0).any() and not (value == 1).any(), name


# --- which value is which ------------------------------------------------------------------------


def operation(
    name: str, primitive: str, inputs: tuple[int, ...], outputs: tuple[int, ...], *shape: int
) -> PlannedOperation:
    return PlannedOperation(name, primitive, inputs, outputs, shape, shape, 0.0, ())


def test_functions_are_told_by_what_they_rest_on() -> None:
    operations = [
        operation("conv", "conv", (0,), (1,), 4, 8, 8),
        operation("one", "tanh", (1,), (2,), 4, 8, 8),
        operation("two", "sigmoid", (1,), (3,), 4, 8, 8),
        operation("same", "identity", (3,), (4,), 4, 8, 8),
        operation("sum", "add", (1, 2, 4), (5,), 4, 8, 8),
        operation("parts", "split", (5,), (6, 7), 2, 8, 8),
        operation("last", "concat", (7, 6), (8,), 4, 8, 8),
    ]
    whole, half = (1, 4, 8, 8), (1, 2, 8, 8)
    nodes = [
        Node("conv", (IMAGES,), (whole,)),
        Node(None, ((0, 0),), (whole,)),
        Node(None, ((0, 0),), (whole,)),
        Node(None, ((0, 0), (1, 0)), (whole,)),  # the sum of three in two steps
        Node(None, ((3, 0), (2, 0)), (whole,)),
        Node(None, ((4, 0),), (half, half)),
        Node(None, ((5, 1), (5, 0)), (whole,)),
    ]
    assert align(operations, nodes, batch=1) == {
        "conv": ((0, 0),), "one": ((1, 0),), "two": ((2, 0),), "sum": ((4, 0),),
        "parts": ((5, 0), (5, 1)), "last": ((6, 0),),
    }  # fmt: skip


def test_what_is_not_there_is_left_out() -> None:
    operations = [
        operation("act", "relu", (0,), (1,), 4, 8, 8),
        operation("next", "relu", (1,), (2,), 4, 8, 8),
    ]
    assert align(operations, [], batch=1) == {}


# --- differences ---------------------------------------------------------------------------------


def test_differences_are_relative_to_the_largest_value() -> None:
    one, other = np.array([1.0, -4.0]), np.array([1.0, -5.0])
    assert compare.relative(one, other) == 0.2
    assert compare.relative(one, other, floor=10.0) == 0.1
    assert math.isinf(compare.relative(one, np.ones(3)))
    assert math.isinf(compare.relative(np.array([np.nan, 1.0]), other))


def test_a_tensor_that_is_missing_differs() -> None:
    found = compare.largest({}, {"a": np.ones(2)}, ["a"])
    assert math.isinf(found.value) and found.name == "a"


# --- single precision ----------------------------------------------------------------------------


def noisy(truth: np.ndarray, size: float, seed: int) -> np.ndarray:
    return truth + np.random.default_rng(seed).standard_normal(truth.shape) * size


def ratio(torch: dict[str, float], keras: dict[str, float], values: int = 200) -> dict[str, float]:
    """The ratios of errors of the given sizes, about tensors of size one."""
    source = np.random.default_rng(0)
    truth = {name: source.standard_normal(values) for name in torch}
    found = {
        runner: {name: noisy(truth[name], size, seed) for name, size in sizes.items()}
        for seed, (runner, sizes) in enumerate({"torch": torch, "keras": keras}.items())
    }
    return float32.ratios(found, truth, list(truth))


def test_rounding_explains_neither_what_is_not_finite_nor_what_has_nothing_in_common(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch's own values are 0.5 apart."""
    measurements = Measurements.__new__(Measurements)
    measurements.before = {}
    monkeypatch.setattr(measurements, "save", lambda *_: None)
    monkeypatch.setattr(measurements, "read", lambda _: {"x": np.array([1.5])})
    one = {"x": np.array([1.0])}

    def judged(apart: float) -> Row:
        row = Row("training", "training", apart, 1e-10, 1, "x")
        found = {"x": np.array([1.0 + apart])}
        return measurements.magnified(row, lambda *_: None, [found], one, ["x"])

    assert not judged(float("inf")).passes
    assert not judged(0.01).passes
    assert judged(compare.LIMIT / 2).passes


def test_errors_are_compared_tensor_by_tensor() -> None:
    even = {"a": 1e-5, "b": 1e-6, "c": 1e-6}
    assert max(ratio(even, even).values()) < 1.5
    for one, other in ((even, even | {"b": 1e-3}), (even | {"b": 1e-3}, even)):
        found = ratio(one, other)
        assert 500 < found["b"] < 2000 and found["a"] < 1.5 and found["c"] < 1.5


def test_an_error_below_rounding_is_none() -> None:
    assert ratio({"a": 1e-12, "b": 1e-7}, {"a": 1e-8, "b": 1e-7})["a"] < 1


def test_few_values_may_be_exact_by_chance() -> None:
    one = {"a": 1e-5, "b": 1e-8, "c": 1e-5}
    other = {"a": 1e-5, "b": 1e-5, "c": 1e-5}
    assert ratio(one, other, values=3)["b"] < 5
    assert ratio(one, other, values=200)["b"] > 50
    # But not all of them: what is usual is told by the framework that is more exact.
    assert ratio(one, dict.fromkeys(one, 1e-1), values=3)["a"] > 1000


def test_what_is_not_finite_is_no_error_of_any_size() -> None:
    truth = {"a": np.ones(20)}
    found = {"torch": {"a": np.ones(20) + 1e-7}, "keras": {"a": np.full(20, np.nan)}}
    assert math.isinf(float32.ratios(found, truth, ["a"])["a"])


# --- first values --------------------------------------------------------------------------------

NORMAL = Tensor("weight", (64, 32, 3, 3), True, "he_normal", "fan_out")
UNIFORM = Tensor("weight", (200, 100), True, "lecun_uniform", "fan_in")


def spent(values: np.ndarray, tensor: Tensor, tensors: int = 1) -> float:
    stated = initialization.stated(tensor)
    return initialization.excess(initialization.summarize([values], stated), stated, tensors)[0]


def fair(tensor: Tensor, source: np.random.Generator) -> np.ndarray:
    stated = initialization.stated(tensor)
    if stated.bound is None:
        return source.normal(stated.mean, stated.deviation, tensor.shape)
    return source.uniform(-stated.bound, stated.bound, tensor.shape)


@pytest.mark.parametrize("tensor", [NORMAL, UNIFORM], ids=["normal", "uniform"])
def test_fair_draws_are_no_alarm(tensor: Tensor) -> None:
    for size in (tensor.shape, (3, 2), (1, 1)):
        smaller = tensor._replace(shape=size)
        source = np.random.default_rng(0)
        assert max(spent(fair(smaller, source), smaller) for _ in range(100)) < 1.0


def test_the_rate_of_false_alarms_is_no_larger_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initialization, "FALSE_ALARMS", 0.1)
    for tensor in (NORMAL._replace(shape=(4, 4, 3, 3)), UNIFORM._replace(shape=(6, 5))):
        source = np.random.default_rng(0)
        alarms = sum(spent(fair(tensor, source), tensor) > 1.0 for _ in range(2000))
        assert 0 <= alarms <= 240  # of 200 that chance allows, and three deviations of that


def truncated(source: np.random.Generator, deviation: float, shape: tuple[int, ...]) -> np.ndarray:
    """`he_normal` of Keras: cut off at two deviations, and widened to the same variance."""
    values = source.normal(size=math.prod(shape) * 2)
    return (values[np.abs(values) < 2][: math.prod(shape)] * deviation / 0.87962566).reshape(shape)


@pytest.mark.parametrize("scale", [2**0.5, 0.9, 1.1])
@pytest.mark.parametrize("tensor", [NORMAL, UNIFORM], ids=["normal", "uniform"])
def test_another_variance_is_seen(tensor: Tensor, scale: float) -> None:
    assert spent(fair(tensor, np.random.default_rng(0)) * scale, tensor, 100) > 1.0


def test_another_distribution_is_seen() -> None:
    source, stated = np.random.default_rng(0), initialization.stated(NORMAL)
    large = NORMAL._replace(shape=(512, 64, 3, 3))
    deviation = initialization.stated(large).deviation
    assert spent(truncated(source, deviation, large.shape), large, 100) > 1.0
    bound = stated.deviation * math.sqrt(3)
    assert spent(source.uniform(-bound, bound, NORMAL.shape), NORMAL, 100) > 1.0
    shifted = fair(NORMAL, source) + 0.1 * stated.deviation
    assert spent(shifted, NORMAL, 100) > 1.0


def test_constants_are_exact() -> None:
    ones = Tensor("weight", (8,), True, "ones", None)
    assert spent(np.ones(8, "float32"), ones) == 0.0
    assert spent(np.full(8, 0.999), ones) > 1.0


def test_one_draw_for_two_layers_is_seen() -> None:
    values = fair(NORMAL, np.random.default_rng(0))
    summary = initialization.summarize([values], initialization.stated(NORMAL))
    ratio, name, test = initialization.worst(
        {"a": NORMAL, "b": NORMAL}, {"a": summary, "b": summary}
    )
    assert math.isinf(ratio) and name == "b" and test == "another draw than that of a"


# --- updates -------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_updates_are_those_of_torch(name: str) -> None:
    import torch

    recipe = Recipe(name, optimizers.rates(0.1, 12), 0.9, 0.05, epsilon=1e-3)
    source = np.random.default_rng(0)
    values = [source.standard_normal((3, 4)), source.standard_normal(5)]
    parameters = [torch.tensor(value, requires_grad=True) for value in values]
    common: dict[str, Any] = {"lr": 1.0, "weight_decay": recipe.weight_decay}
    theirs: torch.optim.Optimizer
    if name == "sgd":
        theirs = torch.optim.SGD(parameters, momentum=recipe.momentum, **common)
    else:
        betas = (recipe.momentum, recipe.beta2)
        theirs = torch.optim.AdamW(parameters, betas=betas, eps=recipe.epsilon, **common)
    ours = optimizers.optimizer(recipe)
    for step, rate in enumerate(recipe.rates):
        gradients = [source.standard_normal(value.shape) for value in values]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        theirs.param_groups[0]["lr"] = rate
        theirs.step()
        values = [
            ours.update(number, value, gradient, step)
            for number, (value, gradient) in enumerate(zip(values, gradients, strict=True))
        ]
    for value, parameter in zip(values, parameters, strict=True):
        assert compare.relative(value, parameter.detach().numpy()) < 1e-14


def test_every_step_has_a_rate_of_its_own() -> None:
    found = optimizers.rates(0.01, 10)
    assert len(set(found)) == 10 and max(found) == pytest.approx(0.01) and min(found) > 0


# --- the command ---------------------------------------------------------------------------------


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["verify", *arguments]) == 2
    return capsys.readouterr().err


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert "takes torch, keras, flax, onnx, not" in failure(
        capsys, SMALL, "--backends", "torch,caffe"
    )
    assert "needs torch and what to compare with it" in failure(
        capsys, SMALL, "--backends", "torch"
    )
    for size in ("64", "0x64", "64x0", "-1x5", "12345x5", "6\N{ARABIC-INDIC DIGIT ONE}x5"):
        assert "HEIGHTxWIDTH" in failure(capsys, SMALL, f"--size={size}")


def test_what_the_machine_cannot_hold_is_not_begun(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_is_installed", lambda module: True)
    monkeypatch.setattr(command, "_verify", lambda *arguments: pytest.fail("it ran"))
    monkeypatch.setattr("os.sysconf", lambda name: 10**5)  # 10 GB, in pages or bytes of a page
    text = failure(capsys, SMALL, "--backends", "torch,keras", "--size", "4000x4000")
    assert "blur needs more than 45 GB of memory for images of 4000x4000" in text
    assert "there are 10 GB" in text
    assert "try: a smaller --size" in text


def test_the_least_memory_of_a_network() -> None:
    """Of two frameworks: outputs of each operation twice, weights with what training adds."""
    plan, _ = plan_of(parity.network_of("resnet18"), "float64")
    weights = sum(math.prod(tensor.shape) for _, tensor in plan.tensors())
    assert 8 * 8 * weights < memory(plan) < 2e9


@pytest.mark.parametrize(("size", "expected"), [([], (64, 75)), (["--size", "40x50"], (40, 50))])
def test_a_spec_from_standard_input_is_resized(
    size: list[str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Network] = []
    monkeypatch.setattr(command, "_is_installed", lambda module: True)
    monkeypatch.setattr(command, "_verify", lambda networks, *others: given.extend(networks) or 0)
    text = Path(SMALL).read_text(encoding="utf-8").replace("height: 33, width: 30", "")
    text = text.replace("channels: 3,", "channels: 3")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert cli.main(["verify", "-", *size]) == 0
    assert [(each.input.height, each.input.width) for each in given] == [expected]


def test_what_is_not_installed_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_is_installed", lambda module: module == "numpy")
    text = failure(capsys, SMALL, "--backends", "torch,keras,onnx", "--keras-backend", "jax")
    assert "torch and keras and onnx and onnxruntime and jax are not installed" in text
    assert "pip install 'resnet-spec[torch]' 'resnet-spec[keras]' 'resnet-spec[onnx]' jax" in text


def test_a_broken_spec_is_told_before_anything_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_is_installed", lambda module: True)
    monkeypatch.setattr(command, "_verify", lambda *arguments: pytest.fail("it ran"))
    path = tmp_path / "broken.yaml"
    path.write_text("name: broken\n")
    assert cli.main(["verify", str(path)]) == 1
    assert "error RS" in capsys.readouterr().err


# --- whole runs ----------------------------------------------------------------------------------


def measured(network: Network, session: Session, folder: Path, **options: Any) -> Verification:
    verification = Verification(network, session, folder / network.name, **options)
    for row in verification.run():
        assert row.passes, row
    assert not verification.found
    return verification


@pytest.mark.torch
@pytest.mark.keras
def test_a_run_of_the_command(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(parity.SPECS)
    names = ["blur.yaml", "flat.yaml"]
    backends = "torch,keras,onnx"
    code = cli.main(["verify", *names, "--format", "json", "--backends", backends])
    found = json.loads(capfd.readouterr().out)
    assert code == 0 and found["valid"] and found["error_count"] == 0
    blur, flat = found["networks"]
    assert blur["equal"] and flat["equal"]
    rows = {row["measurement"]: row for row in blur["measurements"]}
    assert list(rows) == [
        "parameters", "evaluation", "evaluation, numpy", "evaluation, onnx",
        "training", "statistics", "gradients",
        "SGD weights", "SGD statistics", "SGD evaluation",
        "AdamW weights", "AdamW statistics", "AdamW evaluation",
        "initial values, torch", "initial values, keras",
    ]  # fmt: skip
    assert all(row["equal"] for row in rows.values())
    assert rows["evaluation"]["difference"] <= rows["evaluation"]["tolerance"] == 1e-10
    # PyTorch does not export an adaptive pooling whose parts overlap.
    (skipped,) = [row for row in flat["measurements"] if row["equal"] is None]
    assert skipped["measurement"] == "evaluation, onnx"
    assert skipped["note"].startswith("'avgpool' (adaptive_avg_pool) does not export")
    assert {"torch", "keras", "tensorflow", "onnx", "onnxruntime"} == found["versions"].keys()


def test_the_specs_have_every_operation() -> None:
    networks = [parity.network_of(spec) for spec in ALL_OPERATIONS]
    operations = [each for network in networks for _, each in network.operations()]
    assert {each.primitive.name for each in operations} == PRIMITIVES.keys()


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.keras
# On JAX it takes minutes: every step is compiled anew.
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_keras_on_other_frameworks(framework: str, tmp_path: Path) -> None:
    pytest.importorskip(framework)
    with Session(["torch", "keras"], framework) as session:
        for spec in ALL_OPERATIONS:
            measured(parity.network_of(spec), session, tmp_path)


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.parametrize("framework", ["tensorflow", pytest.param("torch", marks=pytest.mark.slow)])
def test_exact_numerics(framework: str, tmp_path: Path) -> None:
    with Session(["torch", "keras"], framework) as session:
        for spec in ALL_OPERATIONS[::2]:  # they have all that has an exact form of its own
            network = lower(load(spec, Library(), ["numerics=exact"]))
            found = measured(network, session, tmp_path)
            assert not any("Keras" in row.note for row in found.rows), "nothing is carried over"


@pytest.mark.slow  # planted mistakes are found in it, too
@pytest.mark.torch
@pytest.mark.keras
def test_single_precision(tmp_path: Path) -> None:
    with Session(["torch", "keras"], "tensorflow") as session:
        found = measured(parity.network_of(SMALL), session, tmp_path, precision="float32")
    assert max(row.difference for row in found.rows if row.kind == "forward") > 1e-9
    errors = [row.measurement for row in found.rows if row.kind == "error"]
    assert errors == [
        f"error of {name}"
        for name in ("training", "statistics", "gradients", "SGD weights", "AdamW weights")
    ]


@pytest.mark.torch
@pytest.mark.keras
def test_a_network_that_does_not_run_is_a_finding(tmp_path: Path) -> None:
    network = parity.network_of(SMALL)
    sources = sources_of(network)
    sources["keras"] += "\nraise ImportError('not here')\n"
    with Session(["torch", "keras"], "tensorflow") as session:
        verification = Verification(network, session, tmp_path / "one", sources=sources)
        assert list(verification.run()) == []
    (found,) = verification.found
    assert found.code == "RS802"
    assert found.message == "blur: keras failed to open: ImportError: not here"


def test_gradients_that_are_all_zero_move_nothing() -> None:
    """So any rate will do, also the largest."""
    found = SimpleNamespace(
        read=lambda file: {"fc.weight": np.zeros(3)},
        before={"fc.weight": np.ones(3)},
        parameters=["fc.weight"],
    )
    assert Measurements.peak(cast(Any, found)) == PEAK
