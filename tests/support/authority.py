"""A whole authority in a folder: keys, configuration, operators, a register of boxes. For tests and benchmarks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.enrolbox import SimBox, public_der
from vigie.contract.identity import claim_id
from vigie_provisioning.authority import setup
from vigie_provisioning.authority.config import Config, render
from vigie_provisioning.register import entry_line, header_line, raw_public

DOMAIN = "vigie.lab"
OPERATOR = "alice"


@dataclass(slots=True)
class Room:
    """An authority's folder, the key of its only operator, and its register so far."""

    config: Config
    file: Path
    offline: Path
    operator: Ed25519PrivateKey
    register: bytes = b""
    count: int = 0

    def spki(self) -> bytes:
        """Key of enrol.DOMAIN's server."""
        return public_der(x509.load_pem_x509_certificate((self.config.public / "web.pem").read_bytes()))

    def buy(self, number: int, prefix: str = "VG") -> list[SimBox]:
        """Boxes that are in the register (and not yet imported)."""
        spki = self.spki()
        boxes = [SimBox(f"{prefix}-{self.count + i:05d}", spki) for i in range(number)]
        if not self.register:
            self.register = header_line(self.operator, OPERATOR, "0" * 32, self.config.domain, 1)
        parts = [self.register]
        last = hashlib.sha256(self.register.splitlines()[-1]).hexdigest()
        for box in boxes:
            self.count += 1
            line = entry_line(
                self.operator,
                OPERATOR,
                self.count,
                last,
                serial=box.serial,
                claim_id=claim_id(self.count.to_bytes(7, "big")),
                public=public_der(box.identity),
                image="ab" * 32,
                lot="lot-1",
                model="cm4",
                at=self.count,
            )
            last = hashlib.sha256(line[:-1]).hexdigest()
            parts.append(line)
        self.register = b"".join(parts)
        return boxes


def make(root: Path, **changes: Any) -> Room:
    """A new authority below `root`. changes: of its configuration."""
    config = Config(
        domain=DOMAIN,
        state=root / "state",
        public=root / "pki",
        trust=root / "trust",
        http_socket=root / "run" / "http.sock",
        admin_socket=root / "run" / "admin.sock",
        operators=root / "operators.json",
        server_certificates=(root / "pki" / "web.pem",),
    )
    config = replace(config, **changes)
    root.mkdir(parents=True, exist_ok=True)
    servers = [
        setup.Server("mqtt", (f"mqtt.{DOMAIN}",)),
        setup.Server("web", (f"enrol.{DOMAIN}", f"maj.{DOMAIN}", f"console.{DOMAIN}")),
        setup.Server("ingest", ()),
    ]
    file = root / "authority.toml"
    setup.create(config, file, root / "offline", servers)
    assert file.read_text() == render(config)
    return hired(config, file, root / "offline")


def hired(config: Config, file: Path, offline: Path = Path()) -> Room:
    """An authority that is there, with a new operator who is believed."""
    operator = Ed25519PrivateKey.generate()
    public = raw_public(operator).hex()
    config.operators.write_text(json.dumps({"v": 1, "operators": [{"name": OPERATOR, "public": public}]}))
    return Room(config, file, offline, operator)
