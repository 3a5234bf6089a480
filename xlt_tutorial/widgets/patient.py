"""A plotly ``FigureWidget`` for slow machines.

The bridge to the browser, anywidget, gives a widget's script two seconds to load; after that it drops every message to
the widget, which then stays an empty frame. Plotly's script has five megabytes. So a few lines are loaded first, which
load plotly's script in their own time, once a page, and keep what the kernel sends until it is there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

SCRIPT = """
const names = ["addTraces", "deleteTraces", "moveTraces", "restyle", "relayout", "update", "animate",
               "removeLayoutProps", "removeTraceProps"].map(name => `_py2js_${name}`);

async function load(source) {
    const address = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
    try { return await import(address); } finally { URL.revokeObjectURL(address); }
}

export default () => {
    let ready;
    return {
        initialize({model}) {
            const waiting = [];
            const keep = names.map(name => () => model.get(name) && waiting.push([name, model.get(name)]));
            names.forEach((name, i) => model.on(`change:${name}`, keep[i]));
            ready = (async () => {
                globalThis.xltPlotly ??= load(model.get("_plotly"));
                const plotly = await (await globalThis.xltPlotly).default();
                names.forEach((name, i) => model.off(`change:${name}`, keep[i]));
                plotly.initialize({model});
                for (const [name, message] of waiting) {
                    model.set(name, null);
                    model.set(name, message);
                    model.set(name, null);
                }
                return plotly;
            })();
        },
        async render({model, el}) { return (await ready).render({model, el}); },
    };
};
"""


def figure_widget(figure: Any) -> Any:
    """Return a plotly figure as a ``FigureWidget`` that a slow browser draws too."""
    return _widget_class()(figure)


@cache
def _widget_class() -> Any:
    import plotly.graph_objects as go
    from traitlets import Unicode

    script = getattr(go.FigureWidget, "_esm", None)
    if script is None:  # before plotly 6, or without anywidget
        return go.FigureWidget

    class PatientFigureWidget(go.FigureWidget):
        _esm = SCRIPT
        _plotly = Unicode(str(script)).tag(sync=True)

    return PatientFigureWidget
