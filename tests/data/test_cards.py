"""Every data-set card says what one must know, and its data section is real."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vidssl.data.config import load_data
from vidssl.house import find_config, room

CARDS = sorted(room("datasets").glob("*.yaml"))
FIELDS = {"name", "what", "source", "licence", "checksums", "splits", "protocol", "use", "data"}


def test_there_are_cards() -> None:
    assert {"own-videos", "bounce", "fork", "wind", "noisy-tv", "atari"} <= {card.stem for card in CARDS}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_a_card_is_whole_and_true(card: Path) -> None:
    told = yaml.safe_load(card.read_text())
    assert set(told) == FIELDS and all(told.values())
    data = load_data(card)
    protocol = told["protocol"]
    assert protocol["frames"] == {"past": data.past, "future": data.future}
    assert (protocol["size"], protocol["channels"]) == (data.size, data.channels)
    for line in told["use"]:
        words = line.split()
        assert words[0] == "vidssl"
        if "--config" in words:
            recipe = yaml.safe_load(find_config(words[words.index("--config") + 1]).read_text())
            assert recipe["data"]["class_path"] == told["data"]["class_path"]
