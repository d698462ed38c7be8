"""The API's page in a real browser: on a phone, and by an address that names an operation."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from runyard_api.documents import docs_page, openapi
from runyard_api.fronts import operations

URL = "http://docs.test/docs"


@pytest.fixture(scope="module")
def document() -> str:
    """The page as it is served."""
    return docs_page.page(openapi.document(operations()))


def _open(browser: Browser, document: str, fragment: str = "", width: int = 390) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.route(
        "**/*",
        lambda route: route.fulfill(body=document, content_type="text/html", headers=docs_page.HEADERS),
    )
    page.goto(f"{URL}{fragment}")
    return page


@pytest.mark.parametrize("fragment", ["", "#native.run", "#schema-Manifest", "#errors"])
def test_it_is_as_wide_as_a_phone(browser: Browser, document: str, fragment: str) -> None:
    page = _open(browser, document, fragment)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_an_address_opens_the_operation_that_it_names(browser: Browser, document: str) -> None:
    page = _open(browser, document, "#native.run", 1200)
    operation = page.locator("[id='native.run']")
    expect(operation).to_be_in_viewport()
    assert operation.locator("xpath=..").get_attribute("open") is not None
    closed = page.locator("details:not([open])").count()
    page.evaluate("location.hash = '#native.cancel'")
    expect(page.locator("details:not([open])")).to_have_count(closed - 1)
    page.close()
