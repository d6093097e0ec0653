"""FACTA_NATIVE_MODULE: test these compiled kernels in place of the installed ones (scripts/sanitize)."""

from __future__ import annotations

import importlib.util
import os
import sys

if path := os.environ.get("FACTA_NATIVE_MODULE"):
    import torch  # noqa: F401  (the kernels find its OpenMP runtime)

    spec = importlib.util.spec_from_file_location("facta.ops._native", path)
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
