"""What pyproject.toml cannot say: the start-up files go to the root of site-packages."""

import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

HERE = Path(__file__).parent
STARTUP_FILES = ("eft_eval_autoload.pth", "eft_eval_autoload.start")
LINKED = ("model_adapters", "prompts", "reports", "tasks")

if written := [name for name in LINKED if (HERE / "eft_eval" / name).is_file()]:
    sys.exit(
        f"eft_eval/{written[0]} is a text file where the repository has a link: clone it again "
        "with `git clone -c core.symlinks=true` (on Windows with its developer mode on)"
    )


class BuildWithStartupFiles(build_py):
    """Copies the start-up files beside the package, so that wheels carry them at their root."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        Path(self.build_lib).mkdir(parents=True, exist_ok=True)
        for name in STARTUP_FILES:
            shutil.copyfile(HERE / name, Path(self.build_lib) / name)

    def get_outputs(self, include_bytecode=1):
        outputs = super().get_outputs(include_bytecode)
        return [*outputs, *(str(Path(self.build_lib) / name) for name in STARTUP_FILES)]


class _WithStartupFiles:
    """Wraps setuptools' editable strategy and adds the start-up files to the editable wheel."""

    def __init__(self, strategy):
        self._strategy = strategy

    def __call__(self, wheel, files, mapping):
        self._strategy(wheel, files, mapping)
        for name in STARTUP_FILES:
            wheel.writestr(name, (HERE / name).read_bytes())

    def __enter__(self):
        self._strategy.__enter__()
        return self

    def __exit__(self, kind, error, trace):
        self._strategy.__exit__(kind, error, trace)


class EditableWithStartupFiles(editable_wheel):
    """Editable installs start up too; `_select_strategy` is private, so a test watches it."""

    def _select_strategy(self, name, tag, build_lib):
        return _WithStartupFiles(super()._select_strategy(name, tag, build_lib))


setup(cmdclass={"build_py": BuildWithStartupFiles, "editable_wheel": EditableWithStartupFiles})
