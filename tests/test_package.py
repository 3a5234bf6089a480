"""The package as a whole: light to import, every public name there and documented, data flowing one way."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import ROOT

import xlt_tutorial

FOLDER = ROOT / "xlt_tutorial"
# Dotted names and files; a folder of modules has the name and the place in the flow of the folder.
FILES = {
    ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(FOLDER.rglob("*.py"))
    if path.name != "__main__.py" and path != FOLDER / "__init__.py"
}
MODULES = sorted(FILES)
ROOMS = {name.split(".")[0] for name in MODULES}
HEAVY = {"umap", "plotly", "datasets"}

# Left to right, as data flows. Modules in one set do not import each other.
FLOW = [
    {"errors", "styles", "system", "wordlists"},
    {"files"},
    {"caching"},
    {"wheel_e5", "emoji_task", "hub_tasks"},
    {"tasks"},
    {"encoders"},
    {"batching"},
    {"perturb"},
    {"taps", "losses"},
    {"objectives"},
    {"evaluation"},  # training reads it to select by English dev data
    {"statistics"},
    {"training"},
    {"alignment", "synthetic"},
    {"projection"},
    {"figures"},
    {"experiment"},
    {"compare"},
    {"ablation", "stored"},
    {"widgets"},
    {"quiz"},
    {"exercises"},  # the answer key: each topic asks for what the package has
]
RANK = {module: rank for rank, group in enumerate(FLOW) for module in group}


@pytest.mark.parametrize("module", ["", *MODULES])
def test_importing_is_light(loaded, module):
    assert loaded[module] == []


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Module -> heavy packages that are loaded once it has been imported, in one new process."""
    code = f"""
import importlib, json, sys
found = {{}}
for name in {["", *MODULES]!r}:
    importlib.import_module("xlt_tutorial" + ("." + name if name else ""))
    found[name] = sorted({HEAVY!r} & set(sys.modules))
    for heavy in found[name]:
        for loaded in [n for n in sys.modules if n.split(".")[0] == heavy]:
            del sys.modules[loaded]
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_alone_loads_no_framework():
    code = "import sys, xlt_tutorial; sys.exit(bool({'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0


def test_every_public_name_resolves():
    assert len(set(xlt_tutorial.__all__)) == len(xlt_tutorial.__all__) > 10
    for name in xlt_tutorial.__all__:
        thing = getattr(xlt_tutorial, name)
        assert getattr(thing, "__name__", name) == name
    assert dir(xlt_tutorial) == sorted(xlt_tutorial.__all__)


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'xlt_tutorial' has no attribute 'load_tsak'"):
        xlt_tutorial.load_tsak  # noqa: B018
    assert not hasattr(xlt_tutorial, "no_such_name")


def run_time_imports(body: list[ast.stmt]) -> Iterator[str]:
    """Modules and folders of the package that a module imports, wherever it does, but for the sake of types."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from run_time_imports(node.orelse)
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "xlt_tutorial":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xlt_tutorial."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("xlt_tutorial."))
        assert not (isinstance(node, ast.ImportFrom) and node.level), "relative import"
        children = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]
        yield from run_time_imports(children)


def test_run_time_imports_finds_what_it_should():
    source = """
from xlt_tutorial.errors import XltError
if TYPE_CHECKING:
    from xlt_tutorial.tasks import ParallelTask
else:
    import xlt_tutorial.files
def f():
    try:
        from xlt_tutorial import figures, taps
    except ImportError:
        from xlt_tutorial.widgets import show
"""
    assert list(run_time_imports(ast.parse(source).body)) == ["errors", "files", "figures", "taps", "widgets"]


def test_folders_are_looked_into():
    assert {"tasks", "exercises", "exercises.losses", "exercises.values"} <= FILES.keys()
    assert set(RANK) <= ROOMS, "the flow names modules that are there"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_from_the_right(module):
    """Modules that are not in the flow (the command line, the report) may read all of it; none of it reads them."""
    tree, room = ast.parse(FILES[module].read_text(encoding="utf-8")), module.split(".")[0]
    for imported in run_time_imports(tree.body):
        if room in RANK and imported in ROOMS - {room}:
            assert imported in RANK, f"{module} imports {imported}, which has no place in the flow"
            assert RANK[imported] < RANK[room], f"{module} imports {imported} from its right"


def undocumented(body: list[ast.stmt], where: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        stub = [ast.unparse(line) for line in node.body] == ["..."]  # a method of a Protocol
        if not ast.get_docstring(node) and not stub:
            yield f"{where}.{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{where}.{node.name}")


@pytest.mark.parametrize("module", ["", *MODULES])
def test_everything_public_is_documented(module):
    tree = ast.parse(FILES.get(module, FOLDER / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the first lines say what the file is about"
    assert list(undocumented(tree.body, module)) == []
