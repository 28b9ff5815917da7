"""Compiles the kernels while the package is built; where that fails, the package has none."""

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeBuildHook(BuildHookInterface):
    """Runs src/scratchlm/native/build.py and adds what it made to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Called by hatchling before it collects the files of a wheel, editable or not."""
        path = Path(self.root, "src", "scratchlm", "native", "build.py")
        spec = importlib.util.spec_from_file_location("native_build", path)
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        self.app.display_info(build.build_library())
        library = build.library_path()
        if library.is_file():
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"
            build_data["pure_python"] = False
            build_data["artifacts"].append(library.relative_to(self.root).as_posix())
