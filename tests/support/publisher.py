"""What do the tests of publishing share? A published directory, and a seat that pulls from it."""

import shutil
from pathlib import Path

import pytest

from builder.errors import TrustError
from builder.outputs.sign import sign_checksums
from builder.publish.index import Index
from builder.publish.pull import Policy, Pulled, pull
from builder.publish.site import Terms, publish
from tests.support.gpgkeys import TestKey
from tests.support.results import record, write_result

FIRST, SECOND = "2026.11.01", "2026.11.08"


class Publisher:
    """A published directory, and a seat that pulls from it."""

    def __init__(self, place: Path, key: TestKey) -> None:
        self.place, self.key = place, key
        self.root = place / "www"
        self.state = place / "state/pulled.json"
        self.seat = place / "seat/work"

    def terms(self, **how: object) -> Terms:
        return Terms(str(self.key.secret), [self.key.public.read_bytes()], **how)  # type: ignore[arg-type]

    def publish(
        self,
        version: str | None,
        *,
        key: TestKey | None = None,
        report: Path | None = None,
        **what: object,
    ) -> Index:
        """Sign a small result and publish it; without a version, renew the index."""
        results = []
        if version is not None:
            result = self.place / "dist" / version
            shutil.rmtree(result, ignore_errors=True)
            write_result(result, record(version=version), **what)  # type: ignore[arg-type]
            sign_checksums(result, str((key or self.key).secret))
            results = [result]
        return publish(self.root, results, self.terms(), report=report)

    def pull(self, url: str | None = None, *, version: str | None = None, **policy: object) -> Pulled:
        return pull(
            url or str(self.root),
            "work",
            self.seat,
            keys=[self.key.public.read_bytes()],
            state=self.state,
            version=version,
            policy=Policy(**policy),  # type: ignore[arg-type]
        )

    def refused(self, words: str, *, version: str | None = None, **policy: object) -> None:
        """The seat refuses with these words, and keeps what it had."""
        before = sorted(p.name for p in self.seat.iterdir()) if self.seat.exists() else None
        with pytest.raises(TrustError) as caught:
            self.pull(version=version, **policy)
        assert words in caught.value.message
        assert before == (sorted(p.name for p in self.seat.iterdir()) if self.seat.exists() else None)

    def release(self, version: str = FIRST) -> Path:
        return self.root / "work" / version
