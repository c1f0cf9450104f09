"""Department N with boxes N-3, and the other way round: messages recorded at each release are read for ever.

`tests/data/contract/v1/<release>/` is never edited; a release adds a folder. `*.up.json`: {kind, message};
`*.down.json`: {what, message}; `*.envelope.json`: a signed order with the public key that signed it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vigie.contract import base, downward, dsse, schema
from vigie.contract.envelope import Upward
from vigie.contract.words import Kind

FOLDER = Path(__file__).parents[2] / "data" / "contract" / "v1"
RELEASES = sorted(p.name for p in FOLDER.iterdir())
UP = sorted(FOLDER.glob("*/*.up.json"))
DOWN = sorted(FOLDER.glob("*/*.down.json"))
ENVELOPES = sorted(FOLDER.glob("*/*.envelope.json"))
READERS = {
    "received": downward.Received.from_bytes,
    "announcement": downward.Announcement.from_bytes,
    "base-current": base.Descriptor.from_bytes,
}


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("release", RELEASES)
def test_every_kind_is_recorded(release: str) -> None:
    kinds = {json.loads(p.read_bytes())["kind"] for p in UP if p.parent.name == release}
    assert kinds == {k.value for k in Kind}
    what = {json.loads(p.read_bytes())["what"] for p in DOWN if p.parent.name == release}
    assert what == set(READERS)
    assert len([p for p in ENVELOPES if p.parent.name == release]) >= 2


@pytest.mark.parametrize("path", UP, ids=name)
def test_upward(path: Path) -> None:
    record = json.loads(path.read_bytes())
    schema.validate(record["kind"], record["message"])
    message = Upward.from_bytes(Kind(record["kind"]), json.dumps(record["message"]).encode())
    assert json.loads(message.to_bytes()) == record["message"]


@pytest.mark.parametrize("path", DOWN, ids=name)
def test_downward(path: Path) -> None:
    record = json.loads(path.read_bytes())
    READERS[record["what"]](json.dumps(record["message"]).encode())
    schema.validate(record["what"], record["message"])


@pytest.mark.parametrize("path", ENVELOPES, ids=name)
def test_signed(path: Path) -> None:
    """The signature of then, checked by the code of now: PAE, key ids and base64 have not moved."""
    record = json.loads(path.read_bytes())
    public = bytes.fromhex(record["public"])
    envelope = json.dumps(record["envelope"]).encode()
    payload = dsse.verify(envelope, {dsse.keyid(public): public}, 1, record["envelope"]["payloadType"])
    if record["envelope"]["payloadType"] == dsse.DESIRED_TYPE:
        desired = downward.Desired.from_bytes(payload)
        assert desired.to_dict() == record["payload"]
        assert desired.skipped == ()
    else:
        assert downward.Command.from_bytes(payload).to_dict() == record["payload"]
