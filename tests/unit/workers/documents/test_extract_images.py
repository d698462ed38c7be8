"""Reading images: passed on as they are, made fit for models, or refused before they are decoded."""

from __future__ import annotations

import zlib
from io import BytesIO

import pytest
from PIL import Image

from runyard_workers.documents.extract import extract
from runyard_workers.documents.extraction import Extracted, ExtractLimits
from tests.unit.workers.documents import documents
from tests.unit.workers.documents.refusals import refusal


def picture(read: Extracted) -> Image.Image:
    assert read.image is not None
    shown = Image.open(BytesIO(read.image.data))
    assert shown.size == (read.image.width, read.image.height)
    assert Image.MIME[shown.format or ""] == read.image.media_type
    return shown


@pytest.mark.parametrize(
    ("form", "media_type"), [("PNG", "png"), ("JPEG", "jpeg"), ("GIF", "gif"), ("WEBP", "webp")]
)
def test_an_image_that_models_take_is_passed_on_as_it_is(form: str, media_type: str) -> None:
    data = documents.image(form)
    read = extract(data, "photo.dat")
    assert (read.kind, read.media_type, read.text) == ("image", f"image/{media_type}", "")
    assert read.image is not None
    assert (read.image.data, read.image.media_type) == (data, f"image/{media_type}")
    assert picture(read).size == (40, 20)


@pytest.mark.parametrize("form", ["BMP", "TIFF"])
def test_an_image_that_models_do_not_take_becomes_a_png(form: str) -> None:
    read = extract(documents.image(form), "scan")
    assert read.media_type == f"image/{form.lower()}"
    assert picture(read).format == "PNG"


def test_a_large_image_is_scaled_down() -> None:
    read = extract(documents.image("JPEG", (300, 150)), "photo.jpg", ExtractLimits(image_edge=100))
    assert picture(read).size == (100, 50)
    assert not read.truncated


def test_an_image_of_many_bytes_is_packed_tighter() -> None:
    data = documents.image("PNG", (200, 200))
    read = extract(data, "noise.png", ExtractLimits(image_bytes=len(data) // 2))
    assert picture(read).format == "JPEG"
    assert len(picture(read).tobytes()) == 200 * 200 * 3
    assert refusal(data, "noise.png", ExtractLimits(image_bytes=500)).code == "image_too_large"


def test_a_photo_lying_on_its_side_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert picture(extract(documents.image("JPEG", (40, 20), exif=exif), "phone.jpg")).size == (20, 40)


def test_only_the_first_frame_of_an_animation_is_passed_on() -> None:
    out = BytesIO()
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "green", "blue")]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    read = extract(out.getvalue(), "dance.gif")
    assert picture(read).convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert read.truncated
    assert read.notice == "Only the first of 3 frames or pages of the image is included."


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_a_truncated_image_is_refused(form: str) -> None:
    data = documents.image(form, (100, 100))
    assert refusal(data[: len(data) // 2], "cut.img").code == "file_corrupt"


@pytest.mark.parametrize("size", [(8_000, 8_000), (12_000, 12_000), (60_000, 60_000)])
def test_an_image_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    tiny = bytearray(documents.image("PNG", (1, 1), "1"))
    tiny[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
    tiny[29:33] = zlib.crc32(tiny[12:29]).to_bytes(4, "big")
    assert refusal(bytes(tiny), "bomb.png").code == "image_too_large"
