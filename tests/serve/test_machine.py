"""What a page asks before it shows a form: settings with their bounds, and what is here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")

from livery.config.settings import OPTIONS, TrainSettings
from tests.serve.serving import Client, served, settings_of


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(settings_of(tmp_path_factory.mktemp("machine"))) as client:
        yield client


def test_every_setting_is_told_with_its_bounds(client: Client) -> None:
    found = {one["name"]: one for one in client.get("/api/options").json()["options"]}
    assert found["batch_size"]["type"] == "integer"
    assert found["batch_size"]["min"] == 1
    assert found["schedule"]["choices"] == ["constant", "linear", "cosine"]
    assert found["lora.rank"] | {"help": "", "default": 0} == {
        "name": "lora.rank", "type": "integer", "default": 0, "min": 1, "max": None,
        "above": False, "below": False, "choices": None, "help": "", "group": "adapter",
        "flag": "--lora-r",
    }  # fmt: skip
    assert found["val_split"]["max"] == 1
    assert found["val_split"]["below"]
    fields = {o.name for o in OPTIONS} & set(TrainSettings().as_dict())
    assert fields - set(found) == {"data", "output_dir", "backend"}


def test_defaults_follow_the_roots_own_configuration(client: Client) -> None:
    def rank() -> int:
        options = client.get("/api/options").json()["options"]
        return next(one["default"] for one in options if one["name"] == "lora.rank")

    assert rank() != 3
    (client.settings.root / "mlx_config.yaml").write_text("lora_parameters: {rank: 3}\n")
    assert rank() == 3


@pytest.mark.slow
def test_the_machine_is_looked_at_once(client: Client) -> None:
    first = client.get("/api/machine")
    assert first.status == 200, first.text
    found = first.json()
    assert found["facts"]["machine"]["cores"] >= 1
    assert set(found["backends"]) <= {"mlx", "torch"}
    assert found["bases"]["embedded"] == "base_model"
    assert "date-keys" in found["skills"]
    assert client.get("/api/machine").json() == found
