"""Why the signer does not sign. `code` is the word that programs compare; it is append-only."""

from __future__ import annotations

from vigie_department.errors import DepartmentError


class SignerError(DepartmentError):
    """Root of the signer's errors."""

    code = "signer"


class KeyFileError(SignerError):
    """A key file is missing, malformed, too open, or its passphrase is wrong."""

    code = "key"


class LogBroken(SignerError):
    """The log of signatures does not hold together: the signer does not run until a person has looked."""

    code = "log"


class RuleError(SignerError):
    """The request breaks a rule that holds whoever asks. Nothing was signed."""

    code = "rule"


class RateError(SignerError):
    """Right, but too many at once. Nothing was signed."""

    code = "rate"


class NeedsSecond(SignerError):
    """Needs signatures of offline keys in the same envelope."""

    code = "needs-second"


class NeedsApproval(SignerError):
    """Needs the approval of two operators."""

    code = "needs-approval"


class MetadataError(SignerError):
    """TUF metadata is missing, malformed, not signed by enough keys, or of the wrong version."""

    code = "metadata"
