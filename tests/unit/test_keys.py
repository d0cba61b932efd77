"""The stored schemas are what pydantic makes of the models, and check what the models check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnet_spec.language import keys, validate
from resnet_spec.primitives import PRIMITIVES, ROLES

STORED = Path(validate.__file__).parent / "spec_schema.json"


def test_stored_schemas_are_current(request: pytest.FixtureRequest) -> None:
    made = keys.rendered_tables()
    if request.config.getoption("--update-goldens"):
        STORED.write_text(made, encoding="utf-8")

    assert STORED.read_text(encoding="utf-8") == made, "run: pytest --update-goldens"


@pytest.mark.parametrize("key", [*PRIMITIVES, *ROLES])
def test_layers_have_the_keys_of_their_model(key: str) -> None:
    model = keys.layer_model(key)
    table = validate.model_table(f"layer {key}")
    fields: dict[str, Any] = {f.alias or name: f for name, f in model.model_fields.items()}

    joins = key in PRIMITIVES and PRIMITIVES[key].takes == "many"  # it lists what it takes
    assert set(table["keys"]) == set(fields) - ({"from"} if joins else set())
    required = {name for name, field in table["schema"]["fields"].items() if field["required"]}
    assert required == {name for name, field in fields.items() if field.is_required()}
