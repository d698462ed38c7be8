"""Workbooks: every sheet as comma-separated rows, formulas where no value was saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from io import BytesIO
from typing import Any
from zipfile import ZipFile

from openpyxl import Workbook, load_workbook
from openpyxl.worksheet.formula import ArrayFormula, DataTableFormula

from runyard_workers.documents.extraction import Draft
from runyard_workers.documents.formats.package import Edit, repack
from runyard_workers.documents.formats.table import render

_FORMULA_TAGS = (b"<f>", b"<f ", b":f>", b":f ")  # plain search: a pattern takes seconds on a large sheet
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
_SIZED = Edit(  # where a sheet states no size, the library reads all of it just to learn the size
    part=_SHEET,
    pattern=re.compile(rb"<((?:\w+:)?)sheetData\b"),
    replacement=rb'<\1dimension ref="A1"/><\1sheetData',
)
_MIDNIGHT = time()


def read(data: bytes, draft: Draft) -> None:
    """Raises what `repack` raises; a workbook the library cannot open is ``file_corrupt``."""
    package = repack(data, draft, _SIZED)
    values = load_workbook(BytesIO(package), read_only=True, data_only=True, keep_links=False)
    formulas = None
    if _has_formulas(package):  # a program that computes nothing saves formulas without values
        formulas = load_workbook(BytesIO(package), read_only=True, keep_links=False)
    draft.pages = len(values.worksheets)
    for index, sheet in enumerate(values.worksheets):
        draft.tick()
        if draft.full or draft.truncated:
            draft.cut(f"Only the first {index} of {draft.pages} sheets are included.")
            break
        label = f"sheet {sheet.title}" + (" (hidden)" if sheet.sheet_state != "visible" else "")
        draft.add(render(_rows(values, formulas, index), draft), label)


def _has_formulas(package: bytes) -> bool:
    with ZipFile(BytesIO(package)) as parts:
        sheets = (parts.read(name) for name in parts.namelist() if _SHEET.fullmatch(name))
        return any(tag in sheet for sheet in sheets for tag in _FORMULA_TAGS)


def _rows(values: Workbook, formulas: Workbook | None, index: int) -> Iterator[list[str]]:
    sheet = values.worksheets[index]
    sheet.reset_dimensions()  # the size a sheet claims is not to be trusted
    if formulas is None:
        for row in sheet.iter_rows(values_only=True):
            yield [_shown(value) for value in row]
        return
    other = formulas.worksheets[index]
    other.reset_dimensions()
    for row, written in zip(
        sheet.iter_rows(values_only=True), other.iter_rows(values_only=True), strict=False
    ):
        yield [
            _shown(formula if value is None else value) for value, formula in zip(row, written, strict=False)
        ]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == _MIDNIGHT else value.isoformat(" ", "seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, ArrayFormula):
        return str(value.text)
    if isinstance(value, DataTableFormula):
        return ""
    return str(value)
