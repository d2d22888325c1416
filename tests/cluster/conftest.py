"""The model and the traces of the training tests."""

from tests.train.conftest import base_folder, traces_file

__all__ = ["base_folder", "traces_file"]
