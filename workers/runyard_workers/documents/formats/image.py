"""Images: proven whole by decoding them, then upright, small enough and of a type that models take."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from runyard_workers.documents.extraction import Draft, ImageContent

_READ = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
_MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}
_ORIENTATION = 0x0112
_QUALITIES = (85, 70, 50)


def read(data: bytes, draft: Draft) -> None:
    """Raises ``image_too_large`` before anything is decoded, ``file_corrupt`` for what does not decode."""
    try:
        with Image.open(BytesIO(data), formats=_READ) as image:
            _check_size(image, draft)
            image.verify()
        with Image.open(BytesIO(data), formats=_READ) as image:  # verify leaves the first one unusable
            image.load()
            _note_frames(image, draft)
            draft.image = _as_it_is(image, data, draft) or _converted(image, draft)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise draft.error("image_too_large", f"it has more than {draft.limits.pixels:,} pixels") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise draft.error("file_corrupt", "the image is damaged or cut off") from error


def _check_size(image: Image.Image, draft: Draft) -> None:
    width, height = image.size
    if width * height > draft.limits.pixels:
        problem = f"it has {width:,} × {height:,} pixels, the limit is {draft.limits.pixels:,} in all"
        raise draft.error("image_too_large", problem)


def _note_frames(image: Image.Image, draft: Draft) -> None:
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1:
        image.seek(0)
        draft.cut(f"Only the first of {frames:,} frames or pages of the image is included.")


def _as_it_is(image: Image.Image, data: bytes, draft: Draft) -> ImageContent | None:
    """The bytes themselves, where a model sees in them what a person does."""
    media_type = _MEDIA_TYPES.get(image.format or "")
    upright = image.getexif().get(_ORIENTATION, 1) == 1
    small = max(image.size) <= draft.limits.image_edge and len(data) <= draft.limits.image_bytes
    if media_type and upright and small and not draft.truncated:
        return ImageContent(data, media_type, *image.size)
    return None


def _converted(image: Image.Image, draft: Draft) -> ImageContent:
    edge = draft.limits.image_edge
    picture = ImageOps.exif_transpose(image)
    transparent = picture.has_transparency_data
    picture = picture.convert("RGBA" if transparent else "RGB")
    picture.thumbnail((edge, edge), reducing_gap=3.0)
    draft.tick()
    drawn = image.format in ("PNG", "GIF", "BMP", "TIFF")  # screens and scans blur as JPEG
    if transparent or drawn:
        data = _encoded(picture, "PNG")
        if len(data) <= draft.limits.image_bytes:
            return ImageContent(data, "image/png", *picture.size)
    picture = _on_white(picture)
    for quality in _QUALITIES:
        data = _encoded(picture, "JPEG", quality)
        if len(data) <= draft.limits.image_bytes:
            return ImageContent(data, "image/jpeg", *picture.size)
    raise draft.error("image_too_large", f"even scaled to {edge} pixels it is larger than models take")


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture
    page = Image.new("RGB", picture.size, "white")
    page.paste(picture, mask=picture.getchannel("A"))
    return page


def _encoded(picture: Image.Image, form: Literal["PNG", "JPEG"], quality: int = 0) -> bytes:
    out = BytesIO()
    if form == "PNG":
        picture.save(out, form, optimize=False)
    else:
        picture.save(out, form, quality=quality)
    return out.getvalue()
