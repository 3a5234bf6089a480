"""A plotly ``FigureWidget`` for slow machines, as wide as its place where it has no width of its own.

The bridge to the browser, anywidget, gives a widget's script two seconds to load; after that it drops every message to
the widget. Plotly's script has five megabytes. So a few lines are loaded first, which load plotly's script in their own
time, once a page, and keep what the kernel sends until it is there.

Even those lines can come late, in a browser that draws other figures meanwhile. Plotly sends a figure's traces in a
message of their own, just after it has told the browser of a widget without any, which would stay an empty frame; here
the browser is told of the widget once it has its traces. And lines that find that they are late take the messages past
the bridge, and ask for the figure as it is by then.

An update of several traces carries the word ``_undefined_`` where one of them keeps what it has. Plotly reads it so in
a picture that stands, but writes it into the data from which the next one is drawn; here it is taken out before.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

SCRIPT = """
const names = ["addTraces", "deleteTraces", "moveTraces", "restyle", "relayout", "update", "animate",
               "removeLayoutProps", "removeTraceProps"].map(name => `_py2js_${name}`);

// Lets traces that an update leaves as they are be left in the data for the next picture too.
function without_gaps(message) {
    for (const values of Object.values(message?.style_data ?? message?.restyle_data ?? {}))
        if (Array.isArray(values)) values.forEach((one, i) => { if (one === "_undefined_") values[i] = undefined; });
}

// Has a figure of no set width fill the place that it stands in, which comes to be after it is drawn and can change.
function follow_width(el) {
    let width = 0;
    const watch = new ResizeObserver(() => {
        if (el.clientWidth === width) return;
        width = el.clientWidth;
        window.dispatchEvent(new Event("resize"));
    });
    watch.observe(el);
    return watch;
}

async function load(source) {
    const address = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
    try { return await import(address); } finally { URL.revokeObjectURL(address); }
}

// True where the bridge gave up before this script was there: it then refuses even a message that says nothing.
async function late(widget) {
    try { await widget._handle_comm_msg({content: {data: {method: "nothing"}}}); } catch { return true; }
    return false;
}

// Where it gave up: takes messages past it from now on, and asks the kernel for what was lost. True where it did.
async function caught_up(model) {
    let widget;
    model.on("change:_asked", changed => widget = changed);
    model.set("_asked", true);
    if (!widget?.comm?.on_msg || !await late(widget)) return false;
    const plain = Object.getPrototypeOf(Object.getPrototypeOf(widget))._handle_comm_msg;
    widget.comm.on_msg(message => plain.call(widget, message));
    await new Promise(resolve => { model.on("msg:custom", resolve); model.send("late"); });
    await widget.state_change;
    return true;
}

export default () => {
    let ready;
    return {
        initialize({model}) {
            const waiting = [];
            const keep = names.map(name => () => model.get(name) && waiting.push([name, model.get(name)]));
            names.forEach(name => model.on(`change:${name}`, () => without_gaps(model.get(name))));
            names.forEach((name, i) => model.on(`change:${name}`, keep[i]));
            model.on("change:_widget_data", () => waiting.length = 0);  // shown once more: sent as it is by then
            ready = (async () => {
                globalThis.xltPlotly ??= load(model.get("_plotly"));
                const plotly = await (await globalThis.xltPlotly).default();
                if (await caught_up(model)) waiting.length = 0;
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
        async render({model, el}) {
            const remove = (await ready).render({model, el});
            const watch = model.get("_config").responsive ? follow_width(el) : null;
            return () => { watch?.disconnect(); remove(); };
        },
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
        _whole = False

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._config = {"responsive": self.layout.width is None}
            self._whole = True
            self.on_msg(self._resend)
            self.open()

        def open(self) -> None:
            """Tell the browser of the widget, once it is whole."""
            if self._whole:
                super().open()

        def _resend(self, _: Any, content: Any, __: Any) -> None:
            """Send a browser that was late the figure as it is now."""
            if content == "late":
                self._widget_data, self._widget_layout = deepcopy(self._data), deepcopy(self._layout)
                self.send_state(["_widget_data", "_widget_layout"])  # what has not changed has not been sent
                self.send("now")

    return PatientFigureWidget
