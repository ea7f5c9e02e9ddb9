"""Pillow's images come back with mode, size, pixels, palette and info."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.values_kit import digest_bytes, edited, quick, refused_elsewhere, there_and_back

from kitaru._core.values import decode, encode
from kitaru.errors import KitaruValueError

MODES = [
    *("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA"),
    *("RGBX", "RGBa", "La", "I;16", "I;16L", "I;16B", "I;16N"),
]


@st.composite
def images(draw: Any) -> Any:
    mode = draw(st.sampled_from(MODES))
    size = draw(st.tuples(st.integers(0, 9), st.integers(0, 3)))
    image = Image.new(mode, size)
    length = len(image.tobytes()) if 0 not in size else 0
    if length:
        image = Image.frombytes(mode, size, draw(st.binary(min_size=length, max_size=length)))
    if mode in ("P", "PA"):
        kind = draw(st.sampled_from(["RGB", "RGBA"]))
        colours = draw(st.integers(0, 5)) * len(kind)
        image.putpalette(draw(st.binary(min_size=colours, max_size=colours)), kind)
    image.info = draw(
        st.dictionaries(
            st.sampled_from(["dpi", "transparency", "icc_profile", "exif", "comment", 1]),
            st.one_of(st.integers(), st.binary(max_size=5), st.text(max_size=3), st.tuples()),
            max_size=2,
        )
    )
    return image


@quick
@given(images())
def test_an_image_comes_back_pixel_by_pixel(image: Any) -> None:
    back = there_and_back(image)
    assert back == image
    assert (back.mode, back.size, back.info) == (image.mode, image.size, image.info)
    assert 0 in back.size or back.tobytes() == image.tobytes()
    if image.palette is not None:
        assert back.getpalette("RGBA") == image.getpalette("RGBA")


def test_equal_images_count_as_equal_and_others_do_not() -> None:
    image = Image.linear_gradient("L")
    larger = Image.new("L", (300, 256))
    larger.paste(image, (0, 0))
    assert digest_bytes(image) == digest_bytes(larger.crop((0, 0, 256, 256)))
    marked = image.copy()
    marked.info["dpi"] = (72, 72)
    seen = [image, image.convert("RGB"), image.rotate(90), image.crop((0, 0, 255, 256)), marked]
    assert len({digest_bytes(value) for value in seen}) == len(seen)
    assert b'"mode":"L","size":[256,256]' in digest_bytes(image)
    assert encode(image, what="").codec == "attachments"


def test_a_quantized_image_keeps_its_colours() -> None:
    image = Image.linear_gradient("L").convert("RGB").quantize(7)
    back = there_and_back({"image": [image]})["image"][0]
    assert back.convert("RGB").tobytes() == image.convert("RGB").tobytes()


def opened() -> Any:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG", dpi=(72, 72))
    return Image.open(file)


def test_the_image_of_an_open_file_is_refused_and_its_copy_is_not() -> None:
    with pytest.raises(KitaruValueError, match=r"PngImageFile cannot be stored.*image\.copy\(\)"):
        encode([opened()], what="a test")
    assert "dpi" in there_and_back(opened().copy()).info


def test_exif_that_would_be_lost_is_refused_and_what_the_info_says_is_kept() -> None:
    image = Image.new("RGB", (2, 2))
    image.getexif()[0x010E] = "a description"
    with pytest.raises(KitaruValueError, match="EXIF data that was set on it would be lost"):
        encode(image, what="a test")
    image.info["exif"] = image.getexif().tobytes()
    back = there_and_back(image.copy())
    assert back.getexif()[0x010E] == "a description"
    there_and_back(back)  # looking at it has changed nothing


def test_info_without_an_encoding_is_refused_with_its_path() -> None:
    image = Image.new("L", (1, 1))
    image.info["client"] = object()
    with pytest.raises(KitaruValueError) as caught:
        encode([image], what="a test")
    assert caught.value.path == "$[0].info.client"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"size":[2,2]', b'"size":[2000000,2000000]'),
        (b'"size":[2,2]', b'"size":[-2,-2]'),
        (b'"size":[2,2]', b'"size":[2,2,1]'),
        (b'"size":[2,2]', b'"size":2'),
        (b'"mode":"P"', b'"mode":"RGB"'),
        (b'"mode":"P"', b'"mode":"EXE"'),
        (b'"mode":"P"', b'"mode":["P"]'),
        (b'"palette":["RGB"', b'"palette":["BGR;15"'),
        (b'"palette":["RGB","', b'"palette":["RGB","zz'),
        (b'"info":{"a":1}', b'"info":[1]'),
        (b'"PIL.Image"', b'"PIL.ImageShow"'),
    ],
)
def test_an_edited_record_is_refused(old: bytes, new: bytes) -> None:
    image = Image.new("P", (2, 2))
    image.putpalette(b"\1\2\3")
    image.info["a"] = 1
    payload = edited(encode(image, what="a test"), old, new)
    with pytest.raises(KitaruValueError, match="malformed"):
        decode(payload, what="a test")


def test_without_pillow_an_image_is_refused_and_nothing_is_imported() -> None:
    said = refused_elsewhere(
        "from PIL import Image\n"
        "from kitaru._core.values import encode\n"
        "payload = encode(Image.new('L', (1, 1)), what='')\n",
        "PIL",
    )
    assert "it was recorded as a PIL.Image" in said
    assert "`import PIL.Image`" in said
    assert said.endswith("\nFalse\n")
