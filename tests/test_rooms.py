"""The four rooms and what each may import, read from the syntax tree and seen in fresh interpreters."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("adapters", "orchestrator", "results", "suites")
ALLOWED = {
    "suites": {"pydantic", "pydantic_core", "ruamel", "adapters", "suites"},
    "adapters": {"torch", "timm", "torchvision", "numpy", "safetensors", "adapters"},
    "results": {
        "pyarrow",
        "duckdb",
        "pandas",
        "scipy",
        "matplotlib",
        "jinja2",
        "numpy",
        "safetensors",
        "results",
    },
    "orchestrator": {
        "adapters",
        "suites",
        "results",
        "ray",
        "aiohttp",
        "typer",
        "rich",
        "torch",
        "timm",
        "numpy",
    }
    | {"orchestrator"},
}
# A data set's own reader and an export's own writer, inside a function; and single files: what timm
# itself brings for the hub's cache, and the JPEG encoder of a corruption.
READERS = {
    "adapters/data": {"sklearn", "mlxtend", "skimage", "PIL", "pyarrow"},
    "results/exports": {"mlflow", "tensorboard", "wandb"},
}
OWN = {
    "adapters/backbones/_timm.py": {"huggingface_hub"},
    "adapters/clip_text.py": {"open_clip"},
    "results/s3.py": {"boto3", "botocore"},
    "adapters/corruptions.py": {"PIL"},  # its JPEG encoder
}


def imports(tree):
    """(top-level name, line, inside a function) of every import of a module, typing-only ones too."""
    inner = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names = [node.module]
        else:
            continue
        for name in names:
            yield name.partition(".")[0], node.lineno, node in inner


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room):
    wrong = []
    for path in sorted((ROOT / room).rglob("*.py")):
        place = path.relative_to(ROOT)
        for name, line, inside in imports(ast.parse(path.read_text())):
            readers = READERS.get(str(place.parent), set()) | OWN.get(str(place), set())
            if name in ALLOWED[room] | set(sys.stdlib_module_names) | (
                readers if inside else set()
            ):
                continue
            wrong.append(f"{place}:{line}: {room} must not import {name}")
    assert not wrong, "\n".join(wrong)


def test_torch_is_imported_in_the_core_and_inside_the_job_alone():
    for path in sorted((ROOT / "orchestrator").rglob("*.py")):
        for name, line, inside in imports(ast.parse(path.read_text())):
            assert inside or name not in ("torch", "timm"), f"{path}:{line}"


def loaded_by(code):
    """Top-level modules that a fresh interpreter has after running `code`."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}\nimport sys; print(*{{m.partition('.')[0] for m in sys.modules}})",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_results_loads_neither_torch_nor_ray():
    assert not loaded_by("import results.table, results.query") & {
        "torch",
        "ray",
        "adapters",
        "suites",
    }


def test_the_command_line_loads_neither_torch_nor_ray_nor_a_table_library():
    heavy = {"torch", "ray", "timm", "pyarrow", "duckdb", "pandas", "pydantic"}
    assert not loaded_by("import orchestrator.cli") & heavy


def test_the_dispatcher_needs_no_torch():
    """It is a process of its own: torch in it would cost every start seconds and memory."""
    assert "torch" not in loaded_by("import orchestrator.dispatch")


def test_every_file_is_short_enough_to_read():
    long = {
        str(path.relative_to(ROOT)): lines
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 320
    }
    assert not long


def test_the_rooms_are_ours():
    from orchestrator import packages

    packages.check()
    assert set(packages.found()) == set(ROOMS)


def test_another_package_of_the_same_name_is_named(monkeypatch):
    from orchestrator import packages

    real = packages.found()
    monkeypatch.setattr(packages, "found", lambda: real | {"adapters": "/x/adapters/__init__.py"})
    with pytest.raises(
        packages.PackageError, match=r"/x/adapters/__init__\.py under the name 'adapters'"
    ):
        packages.check()


def test_importing_results_loads_nothing_until_something_is_used():
    light = loaded_by("import results, results.metrics, results.selection")
    assert not light & {"pyarrow", "duckdb", "pandas"}
