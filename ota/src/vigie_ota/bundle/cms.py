"""The signature of a bundle: CMS around the manifest (RFC 5652), made and checked by openssl, as RAUC does.

What is signed is the manifest alone, half a kilobyte: the machine with the release key needs neither the bundle nor
RAUC, and a key in hardware can take the place of the file without anything else changing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from vigie_ota.bundle import certificates
from vigie_ota.bundle.manifest import MANIFEST_MAX
from vigie_ota.errors import SignatureError, ToolError, UsageError
from vigie_ota.tools import run


def sign(manifest: bytes, certificate: Path, key: Path, passphrase: str) -> bytes:
    """DER. UsageError when the certificate is not one that boxes take, ToolError with openssl's words."""
    certificates.check_usage(certificates.load_certificate(certificate), str(certificate))
    return run(
        ["openssl", "cms", "-sign", "-binary", "-nodetach", "-nosmimecap", "-md", "sha256", "-outform", "DER",
         "-signer", certificate, "-inkey", key, "-passin", "env:VIGIE_PASSPHRASE"],
        text=manifest, passphrase=passphrase,
    )  # fmt: skip


def verify(signature: bytes, keyring: Path, where: str) -> bytes:
    """The manifest that is signed. SignatureError unless a certificate for signing code, below the keyring, made it."""
    with tempfile.TemporaryDirectory(prefix="vigie-ota-") as name:
        folder = Path(name)
        signer = folder / "signer.pem"
        try:
            manifest = run(
                ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-CAfile", keyring, "-no-CApath",
                 "-purpose", "any", "-signer", signer],
                text=signature,
            )  # fmt: skip
        except ToolError as e:
            raise SignatureError(f"{where}: not signed by a release certificate of {keyring} ({e})") from e
        try:
            certificates.check_usage(certificates.load_certificate(signer), f"{where}: its certificate")
        except UsageError as e:
            raise SignatureError(str(e)) from e
    if len(manifest) > MANIFEST_MAX:
        raise SignatureError(f"{where}: {len(manifest)} signed bytes, a manifest has at most {MANIFEST_MAX}")
    return manifest
