"""Files that are in an object store already, and valid as soon as their manifest is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lottery.files.write import safe_name
from lottery.store.manifest import MANIFEST
from lottery.store.objects.bucket import Bucket, Mark
from lottery.store.objects.listing import SMALLEST_MANIFEST


@dataclass(frozen=True)
class ObjectDraft:
    """Objects that a manifest is to make valid.

    Attributes:
        bucket: where they are.
        path: of the group that they are to be.
        files: by name.
        blobs: the same by the names of the objects.
        manifest: what makes them valid.
        done: called with all objects and the mark of the manifest, None where there was one already.
    """

    bucket: Bucket
    path: str
    files: Mapping[str, bytes]
    blobs: Mapping[str, bytes]
    manifest: bytes
    done: Callable[[Mapping[str, bytes], Mark | None], None]

    @classmethod
    def upload(
        cls,
        bucket: Bucket,
        path: str,
        files: Mapping[str, bytes],
        manifest: bytes,
        done: Callable[[Mapping[str, bytes], Mark | None], None],
    ) -> ObjectDraft:
        """Write the files, all at the same time."""
        blobs = {blob_name(safe_name(name), hashlib.sha256(data).hexdigest()): data for name, data in files.items()}
        bucket.put_all([(f"{path}/{name}", data) for name, data in blobs.items()])
        return cls(bucket, path, files, blobs, manifest, done)

    def publish(self) -> None:
        """Create the manifest, in place of one that was put aside. Raises FileExistsError where there is one."""
        path = f"{self.path}/{MANIFEST}"
        mark = self.bucket.create(path, self.manifest)
        if mark is None:
            there = self.bucket.get(path)
            if there is not None and len(there[0]) < SMALLEST_MANIFEST:
                mark = self.bucket.swap(path, self.manifest, there[1])
        self.done({MANIFEST: self.manifest, **self.blobs}, mark)
        if mark is None:
            raise FileExistsError(self.bucket.spell(self.path))

    def discard(self) -> None:
        """Do nothing: equal files are those of the one that was first, others are left to `lottery gc`."""

    def put_aside(self, name: str) -> str:
        """Write the files to the quarantine."""
        objects = {**self.files, MANIFEST: self.manifest}
        self.bucket.put_all([(f"quarantine/{name}/{each}", data) for each, data in objects.items()])
        return self.bucket.spell(f"quarantine/{name}")


def blob_name(name: str, sha256: str) -> str:
    """Return the name of the object that a file with this hash is."""
    return f"{name}.{sha256}"
