"""Images as people have them: deep, transparent, turned, damaged, in folders of all kinds. Pixels to the value."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lottery.catalogue.datasets import _images
from lottery.catalogue.datasets._pixels import ColourRule, pixels
from lottery.data.load import load
from lottery.data.splits import Splits, fingerprint
from lottery.errors import DataError
from lottery.registry import datasets
from lottery.values import Component

UPRIGHT = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
STORED = {  # how an upright image lies in a file of each orientation: what the first row and column of the file show
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: UPRIGHT[:, ::-1].transpose(1, 0, 2),
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: UPRIGHT[::-1].transpose(1, 0, 2),
}


def folder_of(root: Path, *images: Any, name: str = "{i}.png", **options: Any) -> Path:
    """Classes a and b with these images each, brightened by one in test/ and by two in b so that no two files agree."""
    for part in ("train", "test"):
        for label in ("a", "b"):
            place = root / "pets" / part / label
            place.mkdir(parents=True)
            for i, image in enumerate(images):
                values = np.asarray(image) + np.asarray(image).dtype.type((part == "test") + 2 * (label == "b"))
                Image.fromarray(values).save(place / name.format(i=i), **options)
    return root / "pets"


def grey(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint8).reshape(1, -1).repeat(len(values), 0)


def pets(root: Path, **args: Any) -> Any:
    return load(Component("image_folder", {"folder": "pets", "size": 4, **args}), root)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def whole(file: Path, **rule: Any) -> np.ndarray:
    """The image at its own size, which must be square."""
    return pixels(file, Image.open(file).height, rule=ColourRule(**rule))


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png16(file: Path, colours: np.ndarray) -> None:
    """A PNG of 16 bits a colour, which Pillow reads and does not write."""
    height, width, _ = colours.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


# Depth


@pytest.mark.parametrize(("bits", "suffix"), [(16, "png"), (16, "tif"), (16, "pgm"), (12, "png"), (10, "tif")])
def test_every_value_of_deep_grey_becomes_the_nearest_of_256(bits: int, suffix: str, tmp_path: Path) -> None:
    values = np.arange(2**16).reshape(256, 256) % 2**bits
    file = tmp_path / f"ramp.{suffix}"
    Image.fromarray(values.astype(np.uint16)).save(file)
    expected = np.rint(values.astype(np.float64) * 255 / (2**bits - 1)).astype(np.uint8)
    assert (whole(file, bits=bits) == expected[..., None].repeat(3, -1)).all()
    if bits == 16:
        assert (expected == np.rint(values / 257)).all()


def test_deep_grey_is_refused_until_the_recipe_says_what_is_white(tmp_path: Path) -> None:
    folder_of(tmp_path, np.array([[0, 300], [65520, 4096]], dtype=np.uint16))
    for stream in (False, True):
        with pytest.raises(DataError, match=r"train/a/0.png: 16-bit grey, its values go from 0 to 65520; .*`bits: 16`"):
            pets(tmp_path, stream=stream)
        with pytest.raises(DataError, match=r"train/a/0.png: values to 65520, and with `bits: 12` white is 4095"):
            pets(tmp_path, bits=12, stream=stream)
    assert pets(tmp_path, size=2, bits=16).train_x[0, 0].tolist() == [[0, 1], [255, 16]]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.array([[0.0, 0.5], [1, 1]], dtype=np.float32), "pixels are real numbers"),
        (np.array([[-1, 0], [1, 1]], dtype=np.int32), "values from -1 to 1, which are no 16 bits"),
        (np.array([[0, 65536], [1, 1]], dtype=np.int32), "values from 0 to 65536, which are no 16 bits"),
    ],
)
def test_values_without_a_white_are_refused_by_name(image: np.ndarray, message: str, tmp_path: Path) -> None:
    Image.fromarray(image).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=f"x.tif: {message}"):
        whole(tmp_path / "x.tif", bits=16)


def test_of_16_bits_a_colour_the_upper_8_are_read(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 2**16, (5, 5, 3))
    png16(tmp_path / "x.png", colours)
    for bits in (None, 16):
        assert (whole(tmp_path / "x.png", bits=bits) == colours >> 8).all()
    with pytest.raises(DataError, match=r"x.png: 16 bits a colour, of which the upper 8 are read; it needs `bits: 16`"):
        whole(tmp_path / "x.png", bits=12)


def test_8_bit_grey_beside_deep_grey_stays_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(grey(0, 7, 255)).save(tmp_path / "x.png")
    assert whole(tmp_path / "x.png", bits=12)[0, :, 0].tolist() == [0, 7, 255]


# Transparency


def transparent_images() -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    """Grey 100 but for one pixel of grey 30, which is transparent, in all the ways that there are."""
    values = np.full((3, 3), 100, dtype=np.uint8)
    values[1, 1] = 30
    alpha = np.full((3, 3), 255, dtype=np.uint8)
    alpha[1, 1] = 0
    palette = Image.fromarray(np.where(values == 30, 1, 0).astype(np.uint8), "L").convert("P")
    palette.putpalette([100] * 3 + [30] * 3)
    return {
        "RGBA": (Image.fromarray(np.dstack([values, values, values, alpha])), {}),
        "LA": (Image.fromarray(np.dstack([values, alpha]), "LA"), {}),
        "L": (Image.fromarray(values), {"transparency": 30}),
        "RGB": (Image.fromarray(np.dstack([values] * 3)), {"transparency": (30, 30, 30)}),
        "P": (palette, {"transparency": 1}),
    }


@pytest.mark.filterwarnings("ignore:'mode' parameter")
@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "RGB", "P"])
def test_transparent_pixels_show_what_the_recipe_puts_behind_them(mode: str, tmp_path: Path) -> None:
    image, options = transparent_images()[mode]
    image.save(tmp_path / "x.png", **options)
    with pytest.raises(DataError, match=r"x.png: has transparent pixels; .*`transparent: white`, or black"):
        whole(tmp_path / "x.png")
    for colour, value in (("white", 255), ("black", 0)):
        expected = np.full((3, 3, 3), 100)
        expected[1, 1] = value
        assert (whole(tmp_path / "x.png", transparent=colour) == expected).all()


def test_a_half_transparent_pixel_is_mixed_with_what_is_behind_it(tmp_path: Path) -> None:
    Image.fromarray(np.full((1, 1, 4), (200, 100, 0, 51), dtype=np.uint8)).save(tmp_path / "x.png")
    assert whole(tmp_path / "x.png", transparent="white")[0, 0].tolist() == [244, 224, 204]  # a fifth of the colour
    assert whole(tmp_path / "x.png", transparent="black")[0, 0].tolist() == [40, 20, 0]


def test_an_opaque_alpha_channel_is_left_away(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([UPRIGHT[:, :6], np.full((6, 6), 255, np.uint8)])).save(tmp_path / "x.png")
    assert (whole(tmp_path / "x.png") == UPRIGHT[:, :6]).all()


# Orientation


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"x.{suffix}"
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    image.save(file, exif=exif_of(orientation), **dict[str, Any](lossless=True) if suffix == "webp" else {})
    sizes = []

    def window(height: int, width: int) -> tuple[int, int, int, int]:
        sizes.append((height, width))
        return 1, 2, 5, 5

    assert (pixels(file, 5, window=window) == UPRIGHT[1:6, 2:7]).all()
    assert sizes == [(6, 10)]
    assert (pixels(file, 6) == pixels(file, 6, resize=6)).all()  # both cut at the centre of the upright image


def test_deep_grey_is_turned_upright_too(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1, 2], [3, 4]], np.uint16) * 257).save(tmp_path / "x.png", exif=exif_of(3))
    assert whole(tmp_path / "x.png", bits=16)[..., 0].tolist() == [[4, 3], [2, 1]]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_say_nothing_of_the_pixels(tmp_path: Path) -> None:
    file = tmp_path / "x.jpg"
    Image.fromarray(UPRIGHT[:, :6]).save(file, exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff" + b"\xff" * 9)
    assert (whole(file) == np.asarray(Image.open(file).convert("RGB"))).all()


def test_a_turned_file_is_marked_where_the_files_stand_for_the_data(tmp_path: Path) -> None:
    files = [tmp_path / f"{orientation}.png" for orientation in (1, 6)]
    for file, orientation in zip(files, (1, 6), strict=True):
        Image.fromarray(UPRIGHT).save(file, exif=exif_of(orientation))
    assert _images.together(files[:1], ["h"], tmp_path) == sha256(b"h").hexdigest()  # as before orientation counted
    assert _images.together(files, ["h", "i"], tmp_path) == sha256(b"h\ni turned 6").hexdigest()


# Several pictures, and none


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_a_file_of_several_pictures_is_refused_with_their_number(suffix: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (0, 90, 180)]
    frames[0].save(tmp_path / f"one.{suffix}")
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    assert (whole(tmp_path / f"one.{suffix}") == 0).all()
    with pytest.raises(DataError, match=rf"x.{suffix}: holds 3 pictures, and an example is one; "):
        whole(tmp_path / f"x.{suffix}")


def test_of_a_camera_s_jpeg_with_a_preview_the_photograph_is_taken(tmp_path: Path) -> None:
    photograph, preview = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    photograph.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[preview])
    assert Image.open(tmp_path / "x.jpg").format == "MPO"
    assert (whole(tmp_path / "x.jpg") == (254, 0, 0)).all()


def test_files_that_are_no_images_are_told_in_one_line_each(tmp_path: Path) -> None:
    Image.fromarray(UPRIGHT[:, :6]).save(tmp_path / "cut.png")
    cut = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(cut[:60])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    for name, message in (
        ("cut", r"no image that can be read \([^\n]*\); replace it or take it away$"),
        ("empty", r"no image that can be read \(the file is empty\); replace it or take it away$"),
        ("text", r"no image that can be read \(no BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP\); replace it or take it away$"),
        ("lost", "cannot be read: No such file or directory$"),
    ):
        with pytest.raises(DataError, match=rf"^\S*{name}.png: {message}"):
            pixels(tmp_path / f"{name}.png", 6)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (folder_of(tmp_path, UPRIGHT) / "train" / "a" / "0.png").chmod(0)
    for stream in (False, True):
        with pytest.raises(DataError, match=r"train/a/0.png: cannot be read: Permission denied$"):
            pets(tmp_path, stream=stream)


# Whole folders


def test_ordinary_images_keep_the_fingerprint_they_have_always_had(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    colour, one = draw.integers(0, 200, (4, 4, 3), dtype=np.uint8), draw.integers(0, 200, (4, 4), dtype=np.uint8)
    folder = folder_of(tmp_path, colour, one)
    for label in ("a", "b"):  # CMYK and palettes, by Pillow's own conversion
        Image.fromarray(colour).convert("CMYK").save(folder / "train" / label / "c.tif")
        Image.fromarray(colour).convert("P").save(folder / "train" / label / "p.gif")
    x, y = {}, {}
    for part in ("train", "test"):
        files = sorted((folder / part).glob("*/*"))
        x[part] = torch.stack([torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files])
        y[part] = torch.tensor([int(file.parent.name == "b") for file in files])
    given: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
    images = {part: values.permute(0, 3, 1, 2) for part, values in x.items()}
    expected = Splits(images["train"], y["train"], images["test"], y["test"], 2, **given)
    assert fingerprint(pets(tmp_path, **given)) == fingerprint(expected)
    assert fingerprint(pets(tmp_path, stream=True, **given)) == fingerprint(expected)


@pytest.mark.parametrize("resize", [None, 8])
def test_images_of_all_kinds_streamed_are_those_in_memory_to_the_byte(resize: int | None, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, UPRIGHT)
    for i, label in enumerate(("a", "b")):
        place = folder / "train" / label
        Image.fromarray(np.full((5, 7), 60_000 + i, np.uint16)).save(place / "deep.png")
        Image.fromarray(np.full((5, 7, 4), 90 + i, np.uint8)).save(place / "transparent.png")
        Image.fromarray(np.ascontiguousarray(STORED[6])).save(place / "turned.jpg", exif=exif_of(6))
    args: dict[str, Any] = {"bits": 16, "transparent": "white", "resize": resize}
    memory, streamed = pets(tmp_path, **args), pets(tmp_path, stream=True, **args)
    assert torch.cat(list(streamed.train_x.split(3))).equal(torch.cat(list(memory.train_x.split(9))))
    assert fingerprint(streamed) == fingerprint(memory)
    assert (streamed.mean, streamed.std) == (memory.mean, memory.std)


def test_the_cache_never_serves_what_another_rule_has_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, np.full((4, 4, 4), (9, 9, 9, 0), np.uint8))
    (tmp_path / "pets" / "train" / "a" / "1.png").write_bytes(
        (tmp_path / "pets" / "train" / "a" / "0.png").read_bytes()
    )
    found = {}
    for decoder in ("1", "2"):
        monkeypatch.setattr(_images, "DECODER", decoder)
        for colour in ("white", "black"):
            value = pets(tmp_path, transparent=colour, std=(1.0, 1.0, 1.0)).train_x[0, 0, 0, 0]
            found[decoder, colour] = int(value)
    assert found == {("1", "white"): 255, ("1", "black"): 0, ("2", "white"): 255, ("2", "black"): 0}
    assert len(list((tmp_path / ".cache").iterdir())) == 4


def test_the_rules_are_part_of_a_key_only_where_they_are_given() -> None:
    plain = datasets.identity(Component("image_folder", {"folder": "pets"}))
    assert plain == {"name": "image_folder", "version": 1, "folder": "pets"}
    given = Component("image_folder", {"folder": "pets", "bits": 12, "transparent": "black"})
    assert datasets.identity(given) == {**plain, "bits": 12, "transparent": "black"}
    wrong = Component("image_folder", {"folder": "pets", "bits": 17, "transparent": "red"})
    assert [place for place, _ in datasets.check(wrong)[1]] == [("transparent",), ("bits",)]


# Folders


def test_images_in_the_folders_of_a_class_belong_to_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path, UPRIGHT) / "train" / "a"
    (folder / "images" / "more").mkdir(parents=True)
    (folder / "0.png").rename(folder / "images" / "more" / "0.png")
    Image.fromarray(UPRIGHT // 2).save(folder / "images" / "1.PNG")
    (folder / "linked").symlink_to(folder / "images", target_is_directory=True)
    for hidden in (".DS_Store", "Thumbs.db", ".hidden/2.png"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"")
    splits = pets(tmp_path)
    assert splits.train_y.tolist() == [0, 0, 0, 0, 1]
    one, two = splits.train_x[0], splits.train_x[1]  # images/1.PNG before images/more/0.png
    assert not one.equal(two) and splits.train_x[:4].equal(torch.stack([one, two, one, two]))
    assert warnings_of(caplog) == []


def test_a_link_that_leads_back_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, UPRIGHT) / "train" / "a"
    (folder / "again").symlink_to(folder, target_is_directory=True)
    with pytest.raises(DataError, match=r"train/a/again: a link that leads back to a folder it lies in"):
        pets(tmp_path)


def test_files_that_are_left_out_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path, UPRIGHT)
    (folder / "train" / "a" / "boxes.txt").touch()
    (folder / "train" / "b" / "1.HEIC").touch()
    (folder / "train" / "b" / "2.heic").touch()
    Image.fromarray(UPRIGHT).save(folder / "train" / "loose.png")
    pets(tmp_path)
    (warning,) = warnings_of(caplog)
    left_out = "2 .heic, 1 images of no class, beside the folders of train/, 1 .txt"
    assert warning == f"{folder}: left out, since they are no images of a class: {left_out}"


@pytest.mark.parametrize("stream", [False, True])
def test_a_class_without_test_images_is_trained_and_said(
    stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(tmp_path, UPRIGHT)
    (folder / "test" / "a" / "0.png").unlink()  # its folder stays
    (folder / "test" / "empty").mkdir()
    splits = pets(tmp_path, stream=stream)
    assert (splits.classes, splits.train_y.tolist(), splits.test_y.tolist()) == (2, [0, 1], [1])
    assert warnings_of(caplog)[0] == f"{folder}: no test images of class a: test accuracy says nothing of them"


def test_a_class_without_training_images_is_refused_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, UPRIGHT)
    for i in range(7):
        (folder / "test" / f"dog{i}").mkdir()
        Image.fromarray(UPRIGHT).save(folder / "test" / f"dog{i}" / "0.png")
    listed = "classes dog0, dog1, dog2, dog3, dog4 and 2 more"
    with pytest.raises(DataError, match=f"pets: test/ has images of {listed}, train/ has none; "):
        pets(tmp_path)
    (folder / "train" / "cat").mkdir()
    with pytest.raises(DataError, match=r"train/cat: no images; image_folder takes .bmp, "):
        pets(tmp_path)


def test_test_images_that_are_training_images_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path, UPRIGHT)
    (folder / "test" / "b" / "copy.png").write_bytes((folder / "train" / "a" / "0.png").read_bytes())
    pets(tmp_path)
    (warning,) = warnings_of(caplog)
    assert warning == (
        f"{folder}: 1 of 3 test images are training images too, test/b/copy.png is one: test accuracy is too high"
    )


def test_images_of_one_colour_ask_for_a_std(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, np.full((4, 4, 3), 9, np.uint8))
    for label in ("a", "b"):
        Image.new("RGB", (4, 4)).save(folder / "train" / label / "0.png")
    with pytest.raises(DataError, match=r"pets: the training images have std \(0.0, 0.0, 0.0\); give another under"):
        pets(tmp_path)
