"""`secateur.json` of a saved folder: its facts, and size and digests of every file beside it.

Two digests, for two questions. "Is this what was written?" asks about disks and copies: XXH3-128 answers it for every
byte of every file at each load, at the price of reading (3 ms for 100 MB; SHA-256 takes 57 ms, with the
processor's own instructions). "Is this what *I* published?" asks about people, and whoever can rewrite a file can
rewrite the digests beside it: it takes SHA-256, from `secateur.json` (whose hash you compare with the one that you
noted) to every file: `verify="sha256"`. Folders of format 1 have SHA-256 alone, and are verified by it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import xxhash

from secateur.core import CheckpointError, RecipeError
from secateur.core.files import once, open_plain, read_small

from .folders import as_it_was

FORMAT = 2
MOST_JSON = 16 << 20
_DIGESTS: dict[str, Callable[[], Any]] = {"xxh3": xxhash.xxh3_128, "sha256": hashlib.sha256}
_CHUNK = 1 << 20


def keep_place(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """Where the bits of a saved keep lie: the file, and the name in it of those of a group `{}`.

    Masks stand beside the values they leave; what is not in the tensors any more has a file of its own.
    """
    apart = "keep.safetensors" in manifest["files"]
    return ("keep.safetensors", "keep:{}") if apart else ("model.safetensors", "{}:bits")


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `secateur.json`, with size and digests of every other file and its own hash."""
    files = {p.name: _told(p) for p in sorted(folder.iterdir()) if p.name != "secateur.json"}
    whole = json.loads(json.dumps({"format": FORMAT, **manifest, "files": files}, default=repr))
    whole["sha256"] = _own_hash(whole)
    text = json.dumps(whole, indent=1) + "\n"
    if len(text) > MOST_JSON:
        raise CheckpointError(
            f"plan, history and measures take {len(text)} bytes, and {MOST_JSON} can be read again",
            where=str(folder / "secateur.json"),
            mend="shorten the result's history",
        )
    (folder / "secateur.json").write_text(text, encoding="utf-8")


def read_manifest(folder: str | Path, *, verify: str = "xxh3", later: Collection[str] = ()) -> dict[str, Any]:
    """`secateur.json`, checked: format, its own hash, and the digest of every file beside it.

    Args:
        verify: which digest, where a folder has both.
        later: files that the caller verifies while it reads them, by a `Check`.

    Raises:
        CheckpointError: no such folder, not ours, too new, truncated or edited; says which.
    """
    if verify not in _DIGESTS:
        raise RecipeError(f"verify is {verify!r}", where="verify=...", mend=f"choose one of: {', '.join(_DIGESTS)}")
    folder = as_it_was(Path(folder))
    file = folder / "secateur.json"
    if file.is_symlink() or not file.is_file():
        raise CheckpointError("there is no secateur.json", where=str(folder), mend="name a folder that Secateur saved")
    manifest = _parse(file)
    for key in ("files", "aliases", "keep"):
        if not isinstance(manifest.setdefault(key, {}), dict):
            raise CheckpointError(f"its {key!r} is no mapping", where=str(file), mend="restore it from a copy")
    for name in manifest["files"]:
        check = Check(folder, name, manifest, verify)
        if name not in later:
            with os.fdopen(open_plain(check.file), "rb", buffering=0) as opened:
                while chunk := opened.read(_CHUNK):
                    check.hasher.update(chunk)
            check.finish()
    return manifest


class Check:
    """One listed file on the way through a hasher; a file of another size or kind is refused at once, unread.

    Args:
        name: as the manifest lists it.
        verify: which digest, where the manifest has both.
    """

    def __init__(self, folder: Path, name: str, manifest: Mapping[str, Any], verify: str) -> None:
        wanted = _wanted(folder, name, manifest)
        if Path(name).name != name:
            raise CheckpointError(f"{name[:80]!r} is no file name", where=str(folder), mend="restore the folder")
        self.file = folder / name
        if self.file.is_symlink() or not self.file.is_file():
            raise CheckpointError(f"{name!r} is missing or no plain file", where=str(folder), mend="restore the folder")
        size = self.file.stat().st_size
        if wanted.get("size", size) != size:
            raise self._damaged(f"it has {size} bytes instead of {str(wanted['size'])[:20]}")
        kind = verify if verify in wanted else "sha256"
        self._wanted = wanted.get(kind)
        self.hasher = _DIGESTS[kind]()

    def finish(self) -> None:
        """Compare what was computed with what `secateur.json` tells."""
        if self.hasher.hexdigest() != self._wanted:
            raise self._damaged("its hash differs")

    def _damaged(self, how: str) -> CheckpointError:
        return CheckpointError(
            f"it was truncated or edited: {how}", where=str(self.file), mend="restore it from a copy"
        )


def _wanted(folder: Path, name: str, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    if name not in manifest["files"]:
        raise CheckpointError(f"secateur.json lists no {name}", where=str(folder), mend="restore the folder")
    told = manifest["files"][name]
    return told if isinstance(told, dict) else {"sha256": told}  # format 1


def _told(file: Path) -> dict[str, Any]:
    hashers = {kind: make() for kind, make in _DIGESTS.items()}
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            for hasher in hashers.values():
                hasher.update(chunk)
    return {"size": file.stat().st_size} | {kind: hasher.hexdigest() for kind, hasher in hashers.items()}


def _parse(file: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(read_small(file, MOST_JSON).decode(), object_pairs_hook=once)
        own_hash = _own_hash(manifest) if isinstance(manifest, dict) else None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"it is no JSON: {error}", where=str(file), mend="restore it from a copy") from error
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
        raise CheckpointError("it is not one of ours", where=str(file), mend="name a folder that Secateur saved")
    if not 1 <= manifest["format"] <= FORMAT:
        raise CheckpointError(
            f"it has format {str(manifest['format'])[:20]}; this version reads up to {FORMAT}",
            where=str(file),
            mend="upgrade secateur",
        )
    if manifest.get("sha256") != own_hash:
        raise CheckpointError("it was edited: its hash differs", where=str(file), mend="restore it from a copy")
    return manifest


def _own_hash(manifest: Mapping[str, Any]) -> str:
    rest = {k: v for k, v in manifest.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
