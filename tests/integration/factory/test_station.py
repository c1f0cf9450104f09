"""A board from an empty eMMC to its label, and whatever goes wrong on the way."""

from __future__ import annotations

import json

import pytest

from tests.integration.factory.conftest import DOMAIN, Person, Workshop
from tests.support.simboard import SimBoard
from vigie.contract.identity import box_id
from vigie_provisioning.factory.steps import Step

pytestmark = pytest.mark.integration


def test_from_an_empty_board_to_a_label(workshop: Workshop, board: SimBoard, person: Person) -> None:
    job = workshop.run(board, person)
    assert job.step is Step.DONE, person.heard
    (entry,) = workshop.entries()
    label = json.loads(board.identity("box.json") or b"")
    assert (entry.serial, entry.claim_id, entry.public) == (label["serial"], label["claim_id"], job.public)
    assert entry.image == label["image"] == job.image
    assert entry.serial == "VG-" + board.chip
    assert entry.box == box_id(job.public) == job.box
    assert (workshop.folder / "state/labels" / f"{job.serial}.pdf").read_bytes().startswith(b"%PDF-")
    assert (workshop.folder / "state/labels" / f"{job.serial}.png").read_bytes().startswith(b"\x89PNG")
    assert workshop.image.read_bytes()[512:] != b"" and DOMAIN
