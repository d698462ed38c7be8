"""Fixtures of the console's tests, of which a module that uses `page` defines `stack`, its installation; the wheels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.console import chromium, sign_in, watched
from tests.stack import Stack
from tests.wheels import Wheels, build


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """The wheels of a release, built once in a process of the tests."""
    return build(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A signed-in page; an error in its script, or a breach of its policy, fails the test."""
    with watched(browser) as page:
        sign_in(page, stack)
        yield page
