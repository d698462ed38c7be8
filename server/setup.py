"""The version, which is that of `runyard`, and the requirement of the same one. All else is in pyproject.toml."""

import tomllib
from pathlib import Path

from setuptools import setup

project = Path(__file__).resolve().parent.parent / "pyproject.toml"
version = tomllib.loads(project.read_text())["project"]["version"]
setup(version=version, install_requires=[f"runyard=={version}"])
