"""Image data sets that torchvision reads and, where they are missing, downloads.

Means and stds are those of each channel over all pixels of the training images, scaled to [0, 1], in the roundings that
are customary: MNIST as in PyTorch's examples/mnist, CIFAR as in common WideResNet recipes, the like for others.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lottery.registry import datasets

if TYPE_CHECKING:
    from lottery.data.splits import Splits

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MNIST = tuple(f"MNIST/raw/{name}" for name in IDX)
FASHION_MNIST = tuple(f"FashionMNIST/raw/{name}" for name in IDX)
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
CIFAR10 = tuple(f"cifar-10-batches-py/{name}" for name in BATCHES)
CIFAR100 = tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta"))
SVHN = ("train_32x32.mat", "test_32x32.mat")


@datasets.register("mnist", files=MNIST, source="LeCun, Bottou, Bengio & Haffner 1998")
def mnist(root: Path) -> Splits:
    """MNIST: 60,000 + 10,000 handwritten digits, 28x28 grey."""
    from lottery.catalogue.datasets._torchvision import read

    return read("MNIST", root, MNIST, classes=10, mean=(0.1307,), std=(0.3081,))


@datasets.register("fashion_mnist", files=FASHION_MNIST, source="Xiao, Rasul & Vollgraf 2017")
def fashion_mnist(root: Path) -> Splits:
    """Fashion-MNIST: 60,000 + 10,000 articles of clothing in 10 classes, 28x28 grey."""
    from lottery.catalogue.datasets._torchvision import read

    return read("FashionMNIST", root, FASHION_MNIST, classes=10, mean=(0.2860,), std=(0.3530,))


@datasets.register("cifar10", files=CIFAR10, source="Krizhevsky 2009")
def cifar10(root: Path) -> Splits:
    """CIFAR-10: 50,000 + 10,000 photographs in 10 classes, 32x32 colour."""
    from lottery.catalogue.datasets._torchvision import read

    return read("CIFAR10", root, CIFAR10, classes=10, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))


@datasets.register("cifar100", files=CIFAR100, source="Krizhevsky 2009")
def cifar100(root: Path) -> Splits:
    """CIFAR-100: 50,000 + 10,000 photographs in 100 classes, 32x32 colour."""
    from lottery.catalogue.datasets._torchvision import read

    return read("CIFAR100", root, CIFAR100, classes=100, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))


@datasets.register("svhn", files=SVHN, source="Netzer et al. 2011")
def svhn(root: Path) -> Splits:
    """Street View House Numbers: 73,257 + 26,032 cropped digits, 32x32 colour; the `extra` images are not used."""
    from lottery.catalogue.datasets._torchvision import read

    return read("SVHN", root, SVHN, classes=10, mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970))
