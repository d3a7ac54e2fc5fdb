"""The shape of the project: packaging, the one direction of imports, and nothing of one machine in any file."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The layers of minilm from the bottom up. A module may import from the lines above its own, and from its own package.
LAYERS = [
    {"kernels"},  # the one seam to minilm_kernels
    {"random", "hub", "exercises"},
    {"autograd"},
    {"tensor"},
    {"ops"},
    {"gradcheck", "draw", "viz"},
    {"nn"},
    {"optim"},
    {"generation"},
    {"models"},
    {"evaluation"},
    {"training"},
    {"cli"},
    {"__main__"},
]
# Beside them: text comes in without a Tensor in sight, and joins at training.
SIDE = {"tokenizers": {"hub"}, "data": {"hub", "random", "tokenizers"}}
SIDE_JOINS = {"training", "cli", "__main__", "evaluation"}
# Imported when they are used, never when minilm is. Tests of parity may import the last ones, the library never.
OPTIONAL = {"numba", "llvmlite", "scipy", "cupy", "mpi4py", "threadpoolctl", "huggingface_hub", "datasets", "IPython"}
NEVER = {"torch", "transformers", "tokenizers", "tiktoken"}


@cache
def tracked_files() -> list[Path]:
    """The files that belong to the project: what git tracks or would, or everything but build products without git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
        names = [name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")]
        products = r"\.git|\.venv[^/]*|build|dist|__pycache__|\.[a-z_]+_cache|\.hypothesis|[^/]*\.egg-info"
        skip = re.compile(rf"(^|/)({products})/")
        names = [name for name in names if not skip.search(name)]
    return [ROOT / name for name in sorted(names) if (ROOT / name).is_file()]


def python_files(*folders: str) -> list[Path]:
    return [p for p in tracked_files() if p.suffix == ".py" and p.relative_to(ROOT).as_posix().startswith(folders)]


def module_name(path: Path) -> str:
    base = ROOT / "kernels" if path.is_relative_to(ROOT / "kernels") else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[tuple[str, ast.stmt, bool]]:
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return imports_in(path.read_text(encoding="utf-8"), package)


def imports_in(source: str, package: str) -> Iterator[tuple[str, ast.stmt, bool]]:
    """(imported module, statement, whether it runs when the file is imported); what only type checkers see is left out.

    `from package import name` gives `package.name`, which is a module or a name inside one.
    """

    def visit(parent: ast.AST, top: bool) -> Iterator[tuple[str, ast.stmt, bool]]:
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node, top
            elif isinstance(node, ast.ImportFrom):
                base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                origin = ".".join(base + ([node.module] if node.module else []))
                for alias in node.names:
                    yield f"{origin}.{alias.name}", node, top
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from visit(ast.Module(node.orelse, []), top)
            else:
                yield from visit(node, top and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))

    yield from visit(ast.parse(source), True)


def allowed(importer: str) -> set[str] | None:
    """The parts of minilm that `importer` may import; None where it has no place in the order."""
    if importer in SIDE:
        return SIDE[importer]
    below: set[str] = set()
    for layer in LAYERS:
        if importer in layer:
            return below | (set(SIDE) if importer in SIDE_JOINS else set())
        below |= layer
    return None


# --- imports ---------------------------------------------------------------------------------------------------------


def test_imports_go_one_way() -> None:
    """kernels ← random, hub ← tensor ← ops ← … ← cli; tokenizers ← data ← training."""
    wrong = []
    for path in python_files("minilm/"):
        parts = module_name(path).split(".")
        if len(parts) == 1:
            continue  # minilm/__init__.py only looks names up
        importer = parts[1]
        may = allowed(importer)
        if may is None:
            wrong.append(f"minilm.{importer} has no place in LAYERS of tests/test_project.py")
            continue
        for name, node, _ in imports_of(path):
            if name.split(".")[0] != "minilm":
                continue
            imported = name.split(".")[1] if "." in name else ""
            if imported == "__version__" or (not imported and importer in ("cli", "__main__")):
                continue  # the command uses the library as its readers do
            if imported not in may | {importer}:
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                wrong.append(f"{where}: minilm.{importer} may not import {name} (a name of minilm itself, or above it)")
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_the_import_reader_sees_every_form() -> None:
    source = (
        "import numba, minilm.nn\n"
        "from ..ops import exp\n"
        "from . import layers\n"
        "if TYPE_CHECKING:\n    import hidden\nelse:\n    import shown\n"
        "try:\n    import tried\nexcept ImportError:\n    pass\n"
        "class A:\n    import inside_class\n"
        "def f():\n    if x:\n        import later\n"
    )
    found = {name: top for name, _, top in imports_in(source, "minilm.nn")}
    top = ["numba", "minilm.nn", "minilm.ops.exp", "minilm.nn.layers", "shown", "tried", "inside_class"]
    assert found == dict.fromkeys(top, True) | {"later": False}


def test_the_order_refuses_upward_imports() -> None:
    assert "tensor" in (allowed("ops") or set())
    assert "ops" not in (allowed("tensor") or set())
    assert "models" not in (allowed("generation") or set())
    assert allowed("tokenizers") == {"hub"}
    assert {"data", "optim"} <= (allowed("training") or set())
    assert allowed("unheard_of") is None


def test_one_seam_to_the_kernels() -> None:
    """Only minilm/kernels.py imports minilm_kernels, and minilm_kernels knows nothing of minilm."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: imports {name}"
        for path in python_files("minilm/")
        for name, node, _ in imports_of(path)
        if name.split(".")[0] == "minilm_kernels" and path != ROOT / "minilm" / "kernels.py"
    ] + [
        f"{path.relative_to(ROOT)}:{node.lineno}: imports {name}"
        for path in python_files("kernels/")
        for name, node, _ in imports_of(path)
        if name.split(".")[0] == "minilm"
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_packages_are_imported_when_used() -> None:
    """No module imports an optional package at its top, but inside the kernel implementation written in it."""
    wrong = []
    for path in python_files("minilm/", "kernels/"):
        for name, node, top in imports_of(path):
            package = name.split(".")[0]
            where = f"{path.relative_to(ROOT)}:{node.lineno}: imports {package}"
            if package in NEVER:
                wrong.append(f"{where}, which only tests/parity may")
            elif package in OPTIONAL and top and not _is_implementation(path):
                wrong.append(f"{where} at module level: import it in the function that uses it")
    assert not wrong, "\n".join(wrong)


def _is_implementation(path: Path) -> bool:
    """Whether `path` lies in a kernel implementation, which the registry imports only when it is asked for."""
    folder = ROOT / "kernels" / "minilm_kernels"
    return path.is_relative_to(folder) and path.relative_to(folder).parts[0].startswith(("numba", "cupy", "cuda"))


def fresh_python(code: str) -> str:
    """What `code` prints in a new interpreter that finds this checkout."""
    paths = [str(ROOT), str(ROOT / "kernels")]
    program = f"import sys; sys.path[:0] = {paths!r}; sys.modules['kernels'] = None\n{code}"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("module", ["minilm", "minilm_kernels", "minilm.ops"])
def test_import_is_light(module: str) -> None:
    """Importing the library loads no optional package, and nothing that draws or shows progress."""
    loaded = fresh_python(f"import {module}; print(*sys.modules)").split()
    heavy = OPTIONAL | NEVER | {"matplotlib", "tqdm", "pandas", "PIL"}
    assert not heavy & {name.split(".")[0] for name in loaded}


def test_every_public_name_is_there() -> None:
    import minilm

    missing = [name for name in minilm.__all__ if not hasattr(minilm, name)]
    assert not missing, f"minilm.__all__ names what cannot be imported: {missing}"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = minilm.no_such_name


@pytest.mark.parametrize("path", python_files("minilm/", "kernels/"), ids=lambda path: module_name(path))
def test_every_module_can_be_imported(path: Path) -> None:
    name = module_name(path)
    if _is_implementation(path):
        pytest.skip("imported by the registry where its package is installed")
    if name.endswith("__main__"):
        ast.parse(path.read_text(encoding="utf-8"))
    else:
        importlib.import_module(name)


# --- packaging -------------------------------------------------------------------------------------------------------


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def lines(section: str, key: str) -> list[str]:
    return [line for line in setup_cfg()[section].get(key, "").splitlines() if line and not line.startswith("#")]


def test_kernels_is_a_bare_folder() -> None:
    """A published package owns the name `kernels`: with our own __init__.py Transformers would import ours."""
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert not (ROOT / "tests" / "__init__.py").exists()


def test_every_package_is_listed() -> None:
    """setup.cfg lists exactly the packages that exist; an unlisted one would be missing from the wheel."""
    found = {module_name(p) for p in python_files("minilm/", "kernels/") if p.name == "__init__.py"}
    listed = lines("options", "packages")
    assert sorted(listed) == listed, "keep the packages in setup.cfg sorted"
    missing, gone = sorted(found - set(listed)), sorted(set(listed) - found)
    assert not missing, f"add to `packages` in setup.cfg: {', '.join(missing)}"
    assert not gone, f"setup.cfg lists packages without an __init__.py: {', '.join(gone)}"


def test_every_code_folder_is_a_package() -> None:
    """A folder with Python files but no __init__.py would be left out of the wheel."""
    folders = {path.parent for path in python_files("minilm/", "kernels/minilm_kernels/")}
    bare = [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").exists()]
    assert not bare, f"no __init__.py in {', '.join(bare)}"


def test_data_files_are_packaged() -> None:
    """Whatever lies in the packages and is no Python file matches a pattern of package_data."""
    roots = {"minilm": ROOT / "minilm", "minilm_kernels": ROOT / "kernels" / "minilm_kernels"}
    left_out = []
    for package, folder in roots.items():
        patterns = [p.strip() for p in setup_cfg()["options.package_data"][package].split(",")]
        packaged = {path for pattern in patterns for path in folder.glob(pattern.replace("assets/**", "assets/**/*"))}
        left_out += [
            str(path.relative_to(ROOT))
            for path in tracked_files()
            if path.is_relative_to(folder) and path.suffix != ".py" and path not in packaged
        ]
    assert not left_out, f"no pattern of [options.package_data] holds {', '.join(left_out)}"


def test_requirements_have_lower_bounds_only() -> None:
    """A pin with == breaks the reader whose other packages need another version."""
    requirements = lines("options", "install_requires")
    for extra in setup_cfg()["options.extras_require"]:
        requirements += lines("options.extras_require", extra)
    for requirement in requirements:
        assert re.fullmatch(r"[\w.-]+>=[\d.]+|minilm\[[\w,]+\]", requirement), requirement


def test_core_and_all_stay_light() -> None:
    """The core needs five packages; `all` must install on any CPU, so neither torch nor cupy is in it."""
    core = {re.split(r"[>\[]", line)[0] for line in lines("options", "install_requires")}
    assert core == {"numpy", "matplotlib", "tqdm", "safetensors", "regex"}
    (everything,) = lines("options.extras_require", "all")
    extras = everything.removeprefix("minilm[").removesuffix("]").split(",")
    names = {re.split(r"[>\[]", line)[0] for extra in extras for line in lines("options.extras_require", extra)}
    assert not {name for name in names if name.startswith(("cupy", "torch"))} | (names & NEVER)


def test_the_command_exists() -> None:
    if not (ROOT / "minilm" / "cli").exists():
        pytest.skip("there is no minilm/cli")
    (command,) = lines("options.entry_points", "console_scripts")
    module, _, function = command.partition("=")[2].strip().partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_files_a_project_needs() -> None:
    for name in ("README.md", "LICENSE", "CONTRIBUTING.md", "Makefile", "benchmarks/LOG.md", ".ci/run"):
        assert (ROOT / name).is_file(), f"{name} is missing"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100, ".ci/run is not executable"


# --- the Makefile ----------------------------------------------------------------------------------------------------


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if sys.platform == "win32" or shutil.which("make") is None:
        pytest.skip("there is no make")
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_make_lists_its_commands() -> None:
    listed = set(re.findall(r"^  make ([a-z-]+)", make().stdout, re.MULTILINE))
    assert listed == {
        "help", "setup", "tutorial", "lab", "test", "test-slow", "test-gpu", "parity", "bench", "lint", "clean",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("version", "has_venv", "sentence"),
    [
        ("3.9", True, "needs Python 3.11, 3.12 or 3.13"),
        ("3.14", True, "needs Python 3.11, 3.12 or 3.13"),
        ("3.12", False, "sudo apt install python3.12-venv"),
        (None, True, "is not one"),
    ],
)
def test_make_says_what_is_missing(tmp_path: Path, version: str | None, has_venv: bool, sentence: str) -> None:
    """A Python that is too old, too new, without venv or not there at all ends `make setup` with what to do."""
    python = tmp_path / "python"
    if version is not None:
        python.write_text(f"""#!/bin/sh
case "$2" in *version_info*) echo {version};; *ensurepip*) exit {int(not has_venv)};; esac
""")
        python.chmod(0o755)
    result = make("setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert result.returncode != 0
    assert sentence in result.stderr
    assert not (tmp_path / "venv").exists()


# --- nothing of one machine ------------------------------------------------------------------------------------------

# Folders that exist on one machine only, and the two files that have to spell them.
MACHINE = re.compile(r"(?<![\w.~-])/(?:root|work|tmp|opt|home/\w+|Users/\w+)/|[A-Z]:\\\\?Users\\")
DATA_FOLDER = re.compile(r"\.\./shared\b|\bshared/(?:data|source)\b")
PATTERN_FILES = {"tests/test_project.py", "notebooks/course/format.py"}


def test_no_machine_path_in_any_file() -> None:
    wrong = []
    for path in tracked_files():
        name = path.relative_to(ROOT).as_posix()
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if name in PATTERN_FILES:
            continue
        if path.suffix == ".ipynb":  # a picture in base64 may spell anything
            text = re.sub(r'"image/[\w+]+": "[^"]*"', "", text)
        for number, line in enumerate(text.splitlines(), start=1):
            if MACHINE.search(line):
                wrong.append(f"{name}:{number}: {line.strip()[:100]}")
            if DATA_FOLDER.search(line) and name != ".ci/run":
                wrong.append(f"{name}:{number}: only .ci/run may name the data folder beside the checkout")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        ("/root/x", True),
        ("see /home/ann/models", True),
        ("C:\\Users\\ann", True),
        ("https://example.org/work/page", False),
        ("a network/work/flow", False),
        ("/usr/bin/env bash", False),
    ],
)
def test_machine_paths_are_recognised(text: str, machine: bool) -> None:
    assert bool(MACHINE.search(text)) is machine


@pytest.mark.parametrize(
    "package",
    ["ops", "nn", "optim", "tokenizers", "data", "generation", "models", "evaluation", "training", "gradcheck", "draw"],
)
def test_what_a_package_offers_can_be_imported_from_minilm(package: str) -> None:
    import minilm

    module = importlib.import_module(f"minilm.{package}")
    offered = [name for name in module.__all__ if not isinstance(getattr(module, name), type(sys))]
    missing = [name for name in offered if name not in minilm.__all__]
    assert not missing, f"minilm/__init__.py does not export {', '.join(missing)}"
    assert all(getattr(minilm, name) is getattr(module, name) for name in offered)
