"""Only what pyproject.toml can't say: the networks in data/checkpoints are packed as the folder btlib/shipped."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["btlib*"]), "btlib.shipped"],
    package_dir={"btlib.shipped": "data/checkpoints"},
)
