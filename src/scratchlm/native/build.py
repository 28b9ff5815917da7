"""Compiles the kernels into one shared library: `python -m scratchlm.native.build`.

The package's build calls it (hatch_build.py); without a C++ compiler nothing is made, and nothing
is missed but speed. Needs GCC 12 or Clang 15 for their vector extensions; MSVC has none.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent / "kernels"
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math"]  # not -ffast-math: a NaN must stay one
_AVX512 = "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma"
INSTRUCTION_SETS = {  # name: flags beside FLAGS; on other processors than x86-64 only "basic"
    "avx512bf16": f"{_AVX512} -mavx512bf16",
    "avx512": _AVX512,
    "avx2": "-mavx2 -mfma",
    "basic": "",  # what every processor of the family has: SSE2, or NEON
}


def source_hash() -> str:
    """Names the sources as they are now; a library says which ones it was made from."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def library_path() -> Path:
    """Where the library lies when it was built."""
    suffix = {"win32": "dll", "darwin": "dylib"}.get(sys.platform, "so")
    return Path(__file__).with_name(f"scratchlm_native.{suffix}")


def find_compiler() -> str | None:
    """The C++ compiler: the first of c++, g++, clang++ on the path."""
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return found
    return None


def build_library() -> str:
    """Compile and link; returns what was done or why not, in a sentence. Never raises."""
    compiler = find_compiler()
    if compiler is None:
        return "no C++ compiler (c++, g++ or clang++): PyTorch's kernels will be used"
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    names = list(INSTRUCTION_SETS) if x86 else ["basic"]
    with tempfile.TemporaryDirectory() as folder:
        commands = [_compile(compiler, name, Path(folder)) for name in names]
        library = [str(SOURCES / "library.cpp"), "-o", str(Path(folder) / "library.o")]
        commands.append([compiler, *FLAGS, f'-DSOURCES="{source_hash()}"', "-c", *library])
        with ThreadPoolExecutor() as pool:
            results = list(pool.map(_run, commands))
        made = Path(folder) / "made"
        objects = [command[-1] for command in commands]
        link = ["-ldl"] if sys.platform == "linux" else []
        if not any(results):
            results.append(
                _run([compiler, "-shared", *objects, "-pthread", *link, "-o", str(made)])
            )
        if failed := next(filter(None, results), ""):
            return f"{compiler} failed, so PyTorch's kernels will be used: {failed}"
        new = library_path().with_suffix(".new")
        shutil.copy(made, new)
        new.replace(library_path())  # whole or absent
    return f"built {library_path().name} with {compiler} for {', '.join(names)}"


def _compile(compiler: str, name: str, folder: Path) -> list[str]:
    flags = [*FLAGS, "-w", *INSTRUCTION_SETS[name].split(), f"-DSUFFIX={name}"]
    return [compiler, *flags, "-c", str(SOURCES / "kernels.cpp"), "-o", str(folder / f"{name}.o")]


def _run(command: list[str]) -> str:
    """Run a compiler; returns its last line of complaint, or nothing."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if "error" in line] or ["exit code"]
    return f"{errors[0]} ({done.returncode})"


if __name__ == "__main__":
    print(build_library())
