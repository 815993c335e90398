"""The rules that keep the house in order: public names, direction of imports, lazy dependencies, size of files."""

import ast
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path

import pytest

import gatewise

SOURCE = Path(gatewise.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# Each part may import itself and what is listed here; the root package serves nobody inside, but for its version.
BELOW: dict[str, set[str]] = {"compiler": set(), "torch_internals": set(), "errors": set(), "quantization": set()}
BELOW["writing"] = {"errors"}
BELOW["cells"] = {"compiler"}
BELOW["backends"] = {"compiler", "torch_internals", "cells", "quantization"}
BELOW["ops"] = BELOW["backends"] | {"backends"}
BELOW["nn"] = BELOW["ops"] | {"ops", "cells"}
BELOW["formats"] = BELOW["nn"] | {"nn", "errors", "writing"}
BELOW["tasks"] = BELOW["formats"] | {"formats"}
BELOW["study"] = BELOW["tasks"] | {"tasks"}
BELOW["cli"] = BELOW["study"] | {"study"}
BELOW["__main__"] = {"cli"}

OPTIONAL = [
    "lightning_fabric",
    "typer",
    "rich",
    "narwhals",
    "matplotlib",
    "pandas",
    "polars",
    "pyarrow",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "onnx_ir",
    "scipy",
    "sklearn",
]
OPTIONAL += ["keras", "h5py", "flax", "jax", "equinox"]
OPTIONAL += ["plotly", "gymnasium", "tensorboard", "tokenizers", "sacrebleu", "babel", "num2words"]
OPTIONAL += ["soundfile", "soxr", "kaldi_native_fbank", "jiwer"]
# torch's compiler takes 70 MB and as long as torch itself.
COMPILER = ["torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "sympy"]
LATER = ["llvmlite", "safetensors", "gatewise.formats", "gatewise.tasks"]


def part_of(file: Path) -> str:
    """The part of the house a file belongs to: its first folder or module below the root package."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def is_root(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "gatewise"


def targets_of(file: Path) -> list[tuple[str, ...]]:
    """All that a file imports, by full names: within functions and under TYPE_CHECKING too. The root package does not
    count where only its version is asked for."""
    tree = ast.parse(file.read_text())
    package = ("gatewise", *file.relative_to(SOURCE).parts[:-1])
    targets: list[tuple[str, ...]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = base + tuple((node.module or "").split(".") if node.module else ())
            targets += [(*module, alias.name) for alias in node.names]
    if {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and is_root(n.value)} == {"__version__"}:
        targets = [target for target in targets if target != ("gatewise",)]
    return targets


def imported_parts(file: Path) -> set[str]:
    """The parts of Gatewise a file imports; 'gatewise' stands for the root package itself."""
    targets = targets_of(file)
    parts = [target[1] if len(target) > 1 else "gatewise" for target in targets if target[0] == "gatewise"]
    return {part if part in BELOW else "gatewise" for part in parts}


def test_public_names_are_the_listed_ones() -> None:
    listed = gatewise.__all__
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(dir(gatewise))
    # These are imported when they are asked for.
    applications = {"Forecaster", "LanguageModel", "Transcriber", "Translator"}
    assert all(getattr(gatewise, name).__name__ == name for name in applications)
    present = applications | {
        name
        for name, value in vars(gatewise).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    modules = {name for name in listed if isinstance(getattr(gatewise, name), types.ModuleType)}
    assert present | modules == set(listed) - {"__version__"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_run_one_way(file: Path) -> None:
    part = part_of(file)
    if part == "__init__":
        return
    assert part in BELOW, f"{part} is not a part of the house; add it to the list with what it may import"
    assert imported_parts(file) <= BELOW[part] | {part}


def name_of(file: Path) -> str:
    return str(file.relative_to(SOURCE))


def imported_files(file: Path) -> set[str]:
    """The files of Gatewise a file imports; of a package its ``__init__``, where the name is no module of it."""
    found: set[str] = set()
    for target in targets_of(file):
        if target[0] == "gatewise":
            place = SOURCE.joinpath(*target[1:])
            candidates = [place.with_suffix(".py"), place / "__init__.py"]
            candidates += [place.parent.with_suffix(".py"), place.parent / "__init__.py"]
            found.add(name_of(next(c for c in candidates if c.is_file())))
    return found


def circles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    """The largest sets of files each of which imports, over others, all the rest (strongly connected components)."""
    reached: dict[str, set[str]] = {}
    for start in imports:
        seen: set[str] = set()
        stack = [*imports[start]]
        while stack:
            file = stack.pop()
            if file not in seen:
                seen.add(file)
                stack += imports[file]
        reached[start] = seen
    sets = {frozenset(b for b in reached[a] if a in reached[b]) for a in imports}
    return [set(one) for one in sorted(sets, key=sorted) if one]


def test_circles_are_found() -> None:
    """A circle of three with a tail, a file that imports itself, and a way without a circle."""
    imports = {"a": {"b"}, "b": {"c", "e"}, "c": {"a"}, "d": {"a"}, "e": {"f"}, "f": set(), "g": {"g"}}
    assert circles(imports) == [{"a", "b", "c"}, {"g"}]


def test_files_import_each_other_without_circles() -> None:
    """Imports within functions and under TYPE_CHECKING count."""
    assert circles({name_of(file): imported_files(file) for file in FILES}) == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_a_file_does_one_thing_in_about_400_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 450


USE = "layer = gatewise.GRU(3, 4); layer(gatewise.nn.base.torch.ones(2, 1, 3))[0].sum().backward(); layer.stream()"


@pytest.mark.parametrize(
    ("code", "absent"),
    [("import gatewise", [*OPTIONAL, *COMPILER, *LATER]), (f"import gatewise; {USE}", [*OPTIONAL, *COMPILER])],
    ids=["import", "use"],
)
def test_what_is_not_needed_is_not_imported(code: str, absent: list[str]) -> None:
    code = f"import sys; {code}; print([m for m in {absent} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def private_names_of_torch(file: Path) -> list[str]:
    """What a file names below torch that torch does not publish."""
    tree, roots, found = ast.parse(file.read_text()), {"torch"}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "torch":
            roots |= {alias.asname or alias.name for alias in node.names}
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "torch"]
    found += [text for node in ast.walk(tree) if (text := dotted(node)).split(".")[0] in roots]
    return [text for text in found if any(p.startswith("_") and not p.endswith("__") for p in text.split("."))]


def dotted(node: ast.AST) -> str:
    """``a.b.c`` as it is written; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_private_parts_of_torch_stand_in_one_file(file: Path) -> None:
    assert (private_names_of_torch(file) != []) == (file.name == "torch_internals.py")


@pytest.mark.slow
def test_wheel_holds_code_types_and_data(tmp_path: Path) -> None:
    import zipfile

    root = SOURCE.parent.parent
    if not (root / "pyproject.toml").is_file():
        pytest.skip("runs from the source tree")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(root)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("py3-none-any.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    skeleton = SOURCE.joinpath("backends", "cuda", "skeleton").glob("*.cuh")
    tracked = {f"gatewise/{f.relative_to(SOURCE)}" for f in [*FILES, *skeleton]}
    assert tracked | {"gatewise_command.py", "gatewise/py.typed", "gatewise/tasks/forecast/co2.csv"} <= packed
    speech = [name for name in packed if "/an4/" in name]
    assert {Path(name).suffix for name in speech} >= {".ogg", ".tsv", ".an4"}
