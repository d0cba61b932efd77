"""The settings: where they are found, what they say, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec.disk.projects import settings_folder
from resnet_spec.project import settings
from resnet_spec.project.settings import Settings, SettingsError

TARGET = 'specs = ["specs/*.yaml"]\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("specs/a.yaml", "specs/b.yaml", "specs/blocks/c.yaml", "specs/more/d.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "specs" / "notes.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(folder: Path) -> Settings:
    result = settings.find(folder)
    assert result is not None
    return result


def fails(folder: Path, text: str, name: str = "resnet-spec.toml") -> list[tuple[str, str, str]]:
    """Code, position and message of each finding."""
    (folder / name).write_text(text)
    with pytest.raises(SettingsError) as caught:
        settings.find(folder)
    return [(each.code, str(each.span), each.message) for each in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("name", "table"),
    [("pyproject.toml", "[[tool.resnet-spec.compile]]"), ("resnet-spec.toml", "[[compile]]")],
)
def test_found_upward_and_relative_to_the_file(project: Path, name: str, table: str) -> None:
    (project / name).write_text(f'{table}\n{TARGET}backends = ["keras"]\nout = "made"\n')
    for folder in (project, project / "specs" / "more"):
        read = found(folder)
        assert read.folder == settings_folder(folder) == project
        assert read.path == name
        (target,) = read.targets
        assert target.specs == (project / "specs/a.yaml", project / "specs/b.yaml")
        assert target.backends == ("keras",)
        assert target.out == project / "made"


def test_defaults_and_several_targets(project: Path) -> None:
    (project / "resnet-spec.toml").write_text(
        f'[[compile]]\n{TARGET}[[compile]]\nspecs = ["specs/**/*.yaml", "specs/a.yaml"]\n'
    )
    first, second = found(project).targets
    assert first.backends == ("torch", "keras")
    assert first.out == project / "generated"
    # blocks are no specs, and a spec that two patterns match is compiled once
    assert [path.name for path in second.specs] == ["a.yaml", "b.yaml", "d.yaml"]


def test_a_project_file_of_others_is_passed_over(project: Path) -> None:
    (project / "resnet-spec.toml").write_text(f"[[compile]]\n{TARGET}")
    (project / "specs" / "pyproject.toml").write_text('[project]\nname = "resnet-spec-user"\n')
    (project / "specs" / "more" / "pyproject.toml").write_text("this is [not TOML")
    assert found(project / "specs" / "more").folder == project
    assert settings_folder(project / "specs" / "more") == project
    assert settings.find(project.parent) is None
    assert settings_folder(project.parent) is None


def test_two_files_in_one_folder(project: Path) -> None:
    (project / "pyproject.toml").write_text(f"[[tool.resnet-spec.compile]]\n{TARGET}")
    assert [code for code, _, _ in fails(project, f"[[compile]]\n{TARGET}")] == ["RS704"]


def test_unknown_keys_with_the_nearest_name(project: Path) -> None:
    text = f'outt = 1\n[[compile]]\n{TARGET}\n[[compile]]\n{TARGET}backend = ["torch"]\n'
    (project / "resnet-spec.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        settings.find(project)
    told = [(str(each.span), each.message, each.help) for each in caught.value.diagnostics]
    assert told == [
        (
            "resnet-spec.toml:1:1",
            "unknown key 'outt' in the settings",
            "expected one of: compile",
        ),
        (
            "resnet-spec.toml:7:1",
            "unknown key 'backend' in the settings",
            "did you mean 'backends'?",
        ),
    ]
    assert caught.value.sources == {"resnet-spec.toml": text}


def test_the_table_of_the_other_file(project: Path) -> None:
    fails(project, f"[[tool.resnet-spec.compile]]\n{TARGET}")
    with pytest.raises(SettingsError) as caught:
        settings.find(project)
    assert caught.value.diagnostics[0].help == "in resnet-spec.toml write [[compile]]"


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("[[compile]]\n", "RS703", "1:3"),
        ("[[compile]]\nspecs = []\n", "RS703", "2:1"),
        ("[[compile]]\nspecs = [1]\n", "RS703", "2:1"),
        ('[[compile]]\nspecs = "specs/*.yaml"\n', "RS703", "2:1"),
        (f"[[compile]]\n{TARGET}out = 3\n", "RS703", "3:1"),
        (f"[[compile]]\n{TARGET}trainer = 1\n", "RS703", "3:1"),
        (f'[[compile]]\n{TARGET}out = ""\n', "RS703", "3:1"),
        (f'[[compile]]\n{TARGET}out = "a\\u0000b"\n', "RS703", "3:1"),
        (f'[[compile]]\n{TARGET}backends = "torch"\n', "RS703", "3:1"),
        ('[[compile]]\nspecs = ["/etc/*.yaml"]\n', "RS703", "2:1"),
        ('[[compile]]\nspecs = ["specs/z*.yaml"]\n', "RS705", "2:1"),
        ('[[compile]]\nspecs = ["specs/blocks/*.yaml"]\n', "RS705", "2:1"),
        ("[compile]\n", "RS703", "1:2"),
        ("compile = [1]\n", "RS703", "1:1"),
        ("[[compile]\n", "RS701", "1:10"),
        ("x = " + "[" * 5000, "RS701", None),
    ],
)
def test_what_is_wrong_and_where(project: Path, text: str, code: str, where: str | None) -> None:
    ((told, span, _),) = fails(project, text)
    assert told == code
    assert where is None or span == f"resnet-spec.toml:{where}"


def test_not_text(project: Path) -> None:
    (project / "resnet-spec.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        settings.find(project)


def test_read_by_path(project: Path) -> None:
    other = project / "other.toml"
    other.write_text(f"[[compile]]\n{TARGET}")
    assert len(settings.read(other).targets) == 1
    with pytest.raises(SettingsError, match="no such file"):
        settings.read(project / "none.toml")
    (project / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(SettingsError, match=r"has no table \[tool.resnet-spec\]"):
        settings.read(project / "pyproject.toml")
