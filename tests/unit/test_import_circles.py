"""No module imports, directly or by way of others, a module that imports it."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp
import pytest

PACKAGES = (
    "runyard",
    "runyard_common",
    "runyard_api",
    "runyard_workers",
    "runyard_scheduler",
    "runyard_launch",
)


@pytest.mark.documents
def test_no_modules_import_each_other() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # `CycleError` names the circle
