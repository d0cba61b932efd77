"""The page of the zoo tells what was measured, what was not, and what is not as it must be."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import parity
import pytest
import zoo_measure
import zoo_page
import zoo_record
import zoo_table
from zoo_record import OTHERS, Against, Difference, Row

from resnet_spec.ir import Network
from resnet_spec.language.library import builtin_specs

NAME = "test_resnet"


def row(**changes: object) -> Row:
    """A row as it would be measured of NAME, with some of it changed."""
    network = parity.network_of(NAME)
    count = parity.ir_counts(network)
    near = [Difference(64, 64, "float64", 1e-15), Difference(65, 75, "float64", 2e-15)]
    given = Row(
        zoo_record.digests_of(network),
        {"ir": count, "torch": count, "keras": count, "flax": count},
        [Against("timm", NAME, count, "direct", near)],
        dict.fromkeys(OTHERS, near),
        environment={"machine": "any"},
    )
    return dataclasses.replace(given, **changes)


def entry(given: Row | None) -> zoo_page.Entry:
    """What the page is made of, for NAME alone."""
    network = parity.network_of(NAME)
    return zoo_page.Entry(network, given, given is not None and given.stale(network))


def line(given: Row | None) -> str:
    """The line of NAME in the tables."""
    return zoo_page.tables([entry(given)]).splitlines()[-1]


def test_what_was_measured_is_as_it_must_be() -> None:
    findings = {name: row.findings() for name, row in zoo_record.read().items()}
    assert {name: found for name, found in findings.items() if found} == {}


def test_record_is_kept(tmp_path: Path) -> None:
    rows = {
        "one": row(environment={"torch": "1"}),
        "other": row(environment={"torch": "2"}, failures=["broken"], deep=True),
        "third": row(
            environment={"torch": "1"}, references=[Against("timm", "third")], backends={}
        ),
    }
    path = tmp_path / "zoo.json"
    zoo_record.write(rows, path)

    assert zoo_record.read(path) == rows
    assert list(tmp_path.iterdir()) == [path]


def test_a_fitting_row() -> None:
    assert row().findings() == []
    cells = ["`test_resnet`", "469,688", "timm", "direct", *["2e-15"] * 4, "64x64, 65x75"]
    assert line(row()) == f"| {' | '.join(cells)} |"


@pytest.mark.parametrize(
    ("difference", "shown"),
    [
        (Difference(64, 64, "float64", 0.0), "0"),
        (Difference(64, 64, "float64", 3e-8, 2e-15), "3e-8 (2e-15)²"),
        (Difference(64, 64, "float64", 3e-8, 2e-8), "✗ 3e-8 (2e-8)²"),
        (Difference(64, 64, "float64", 3e-8), "✗ 3e-8"),
        (Difference(64, 64, "float64", float("nan")), "✗ nan"),
        (Difference(64, 64, "float32", 2e-6), "2e-6¹"),
        (Difference(64, 64, "float32", 2e-4), "✗ 2e-4¹"),
    ],
)
def test_differences_show(difference: Difference, shown: str) -> None:
    count = parity.ir_counts(parity.network_of(NAME))
    given = row(references=[Against("timm", NAME, count, "direct", [difference])])

    assert f"| direct | {shown} |" in line(given)
    assert bool(given.findings()) == shown.startswith("✗")


@pytest.mark.parametrize("other", OTHERS)
def test_the_backends_have_a_closer_bound(other: str) -> None:
    given = row(backends={**row().backends, other: [Difference(64, 64, "float64", 1e-9)]})
    shown = ["✗ 1e-9" if each == other else "2e-15" for each in OTHERS]
    assert f"| 2e-15 | {' | '.join(shown)} |" in line(given)
    assert given.findings() == [f"{OTHERS[other]} is 1e-09 away at 64x64"]


@pytest.mark.parametrize("who", ["torch", "keras", "flax", "timm"])
@pytest.mark.parametrize("wrong", [(469_689, 2080), (469_688, 2081)])
def test_a_count_that_disagrees_shows(who: str, wrong: tuple[int, int]) -> None:
    if who == "timm":
        given = row(references=[Against("timm", NAME, wrong, "direct", [])])
    else:
        given = row(counts={**row().counts, who: wrong})
    trainable, statistics = wrong

    assert f"{trainable:,} + {statistics:,}" in line(given)
    assert len(given.findings()) == 1


def test_failures_and_changes_show() -> None:
    failed = row(failures=["the process ended\nwith status -9"], backends={})
    assert "| ✗ |" in line(failed)
    assert "the process ended with status -9" in zoo_page.summary([entry(failed)])
    for part in ("graph", "references"):
        changed = row(digests={**row().digests, part: "another"})
        assert f"`{NAME}`†" in line(changed)
        assert "1 networks have changed" in zoo_page.summary([entry(changed)])
    assert f"`{NAME}`³" in line(row(deep=True))


def test_what_was_not_measured_shows() -> None:
    partly = row(backends={other: row().backends[other] for other in ("keras", "numpy")})
    assert "| 2e-15 | not measured | 2e-15 |" in line(partly)
    assert "1 still to be compared with Flax" in zoo_page.summary([entry(partly)])
    assert "yet to be" not in zoo_page.summary([entry(row())])
    assert line(None) == f"| `{NAME}` | 469,688 |  |  | not measured |  |  |  |  |"
    assert zoo_page.summary([entry(None)]).startswith("1 networks, 0 measured, 0 of them pass")


def test_every_network_has_a_line() -> None:
    names = [each.network.name for each in zoo_page.entries({})]
    assert sorted(names) == sorted(builtin_specs())


def test_environments_are_told_apart() -> None:
    one, other = (entry(row(environment={"torch": version})) for version in "12")
    text = zoo_page.surroundings([one, one, other])
    assert text == f"- torch 1: 2 networks\n- torch 2: 1 networks (`{NAME}`)"


# --- the run -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "failure"),
    [
        ("import os; os._exit(3)", "the process ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "the process ended with status -9"),
        ("import time; time.sleep(60)", "not done within 0 minutes"),
    ],
)
def test_a_process_that_dies_or_hangs_is_a_row(program: str, failure: str) -> None:
    command = [sys.executable, "-c", program]
    with closing(zoo_table.Worker(command, gigabytes=1, seconds=0.5)) as worker:
        found = [worker.measure(name, row(failures=[])) for name in ("one", "other")]

    assert all(failure in each.failures[-1] or "Broken pipe" in each.failures[-1] for each in found)


def test_it_starts_without_the_folders_that_pytest_adds() -> None:
    command = [sys.executable, zoo_table.__file__, "--help"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_order_and_choice() -> None:
    networks = [parity.network_of(name) for name in ("resnet34", "resnet20", NAME)]

    def due(rows: dict[str, Row]) -> list[str]:
        return [network.name for network, _ in zoo_table.due(networks, rows)]

    assert due({}) == ["resnet20", NAME, "resnet34"]
    assert due({NAME: row(), "resnet20": row()}) == ["resnet20", "resnet34"]


def test_what_a_row_lacks_is_measured() -> None:
    network = parity.network_of(NAME)
    partly = row(backends={"keras": row().backends["keras"]})
    assert zoo_table.due([network], {NAME: partly}) == [(network, partly)]
    assert zoo_table.due([network], {NAME: row(failures=["broken"], backends={})}) == []
    stale = row(digests={})
    ((_, empty),) = zoo_table.due([network], {NAME: stale})
    assert empty.backends == {} and not empty.stale(network)


def test_precision_follows_the_memory() -> None:
    large = parity.network_of("resnetv2_152x4_bit")
    assert zoo_measure.plan_of(large.name, large, gigabytes=10).precision == "float32"
    assert zoo_measure.plan_of(large.name, large, gigabytes=100).precision == "float64"


def test_sizes_that_a_network_allows() -> None:
    for name, sizes in (
        ("resnet18", [(64, 64), (65, 75)]),
        ("resnet20", [(32, 32), (33, 43)]),
        ("resnetaa50", [(64, 64), (63, 95)]),
    ):
        assert zoo_measure.plan_of(name, parity.network_of(name), gigabytes=10).sizes == sizes


@pytest.mark.torch
@pytest.mark.keras
@pytest.mark.flax
@pytest.mark.slow
def test_a_process_measures() -> None:
    """What the record holds of a network is what comes out, up to the order of sums."""
    command = [sys.executable, str(zoo_table.MEASURE), "6"]
    with closing(zoo_table.Worker(command, gigabytes=6, seconds=300)) as worker:
        bad = worker.measure("no_such_network", row())
        found = worker.measure(NAME, row(environment={"machine": "another"}))
        partly = dataclasses.replace(found, backends={"keras": [], "numpy": []})
        completed = worker.measure(NAME, partly)

    assert bad.failures
    assert completed.backends["keras"] == []
    assert completed.backends["flax"] == found.backends["flax"]
    assert found.findings() == []
    assert found.counts == row().counts
    assert [each.names for each in found.references] == ["direct"]
    assert [(d.height, d.width) for d in found.backends["keras"]] == [(64, 64), (65, 75)]
    for other in OTHERS:
        assert 0 < max(each.value for each in found.backends[other]) < 1e-13
    assert "torch" in found.environment


@pytest.mark.torch
@pytest.mark.flax
def test_a_mistake_in_flax_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    written = parity.source_of

    def planted(network: Network, backend: str) -> str:
        text = written(network, backend)
        return text.replace("momentum=0.9", "momentum=0.9, epsilon=1e-4")

    monkeypatch.setattr(parity, "source_of", planted)
    found = zoo_measure.measure(NAME, gigabytes=6, others=["flax"])
    assert found.failures == []
    (finding,) = found.findings()
    assert finding.startswith("Flax is")
