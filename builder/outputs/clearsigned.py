"""What does a clearsigned text say, and who signed it?"""

from collections.abc import Sequence
from dataclasses import replace

from builder.outputs.gpg import trusted_keyring
from builder.outputs.sign import Signature, Verdict, parse_status
from builder.run import Arg
from builder.tools import Tools, ensure_tools

CLEARSIGNED_LIMIT = 1 << 20  # bytes


def read_clearsigned(
    data: bytes, keys: Sequence[bytes], *, tools: Tools | None = None
) -> tuple[Signature, str]:
    """Check a clearsigned text (RFC 9580, 7) against key files' contents, and return what was signed.

    The text is what gpgv writes out: nothing before the header or after the signature is in it. It is empty
    where the signature is not good. Never raises for a bad one.
    """
    tools = tools or ensure_tools()
    if len(data) > CLEARSIGNED_LIMIT:
        return Signature(Verdict.UNREADABLE), ""
    with trusted_keyring(tools, keys) as (ring, trusted):
        signed, text = ring.home / "signed", ring.home / "text"
        signed.write_bytes(data)
        argv: list[Arg] = ["gpgv", "--homedir", ring.home, "--weak-digest", "SHA1", "--status-fd", "1"]
        words = [*argv, "--keyring", trusted, "--output", text, signed]
        found = parse_status(tools.run(words, check=False, network=False).text)
        if found.verdict is not Verdict.GOOD:
            return found, ""
        try:
            return found, text.read_text()
        except (OSError, UnicodeDecodeError):
            return replace(found, verdict=Verdict.UNREADABLE), ""
