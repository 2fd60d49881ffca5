// Curves, columns and heat maps with Plotly's library, in the colours of the page, light and dark.

let loading;

// The library is megabytes: it is fetched when the first chart is drawn, after the page is there.
export function library() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/static/plotly.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("the library that draws curves could not be loaded"));
    document.head.append(script);
  });
  return loading;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const series = (index) => colour(`series-${index}`);
const drawn = new Map();

const axis = (title, more = {}) => ({
  title: { text: title, standoff: 8 },
  gridcolor: colour("grid"),
  zerolinecolor: colour("rule"),
  linecolor: colour("rule"),
  automargin: true,
  ...more,
});

function layout({ x = "", y = "", xMore = {}, yMore = {}, shapes = [], annotations = [], ...more }) {
  return {
    autosize: true,
    margin: { l: 56, r: 34, t: 46, b: 46 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("soft"), size: 12, family: "system-ui, sans-serif" },
    xaxis: axis(x, xMore),
    yaxis: axis(y, yMore),
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    hovermode: "closest",
    hoverlabel: { bgcolor: colour("panel"), font: { color: colour("ink") } },
    shapes,
    annotations,
    uirevision: "kept",
    ...more,
  };
}

// No button sends a chart to a server of the library's makers.
const SETTINGS = { displaylogo: false, responsive: true, plotlyServerURL: "", modeBarButtonsToRemove: ["lasso2d", "select2d", "sendChartToCloud", "sendDataToCloud"] };

// Draw or redraw; `make` returns { data, ...layout } and is asked again when the colours of the system change.
export async function draw(place, make) {
  if (!place) return;
  drawn.set(place, make);
  const plotly = await library();
  const { data, ...rest } = make();
  await plotly.react(place, data, layout(rest), SETTINGS);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [place, make] of drawn) draw(place, make);
});

export const line = (name, points, index, more = {}) => ({
  type: "scatter",
  mode: points.x.length > 1 ? "lines" : "markers",
  name,
  x: points.x,
  y: points.y,
  line: { color: series(index), width: 2, ...(more.line ?? {}) },
  marker: { color: series(index) },
  ...Object.fromEntries(Object.entries(more).filter(([key]) => key !== "line")),
});

export const mark = (x) => ({
  shapes: [{ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: colour("soft"), dash: "dot", width: 1 } }],
  annotations: [{ x, y: 1, yref: "paper", text: "best", showarrow: false, xanchor: "left", xshift: 3, yanchor: "top" }],
});

export function confusion(place, told) {
  return draw(place, () => {
    const rows = told.confusion.map((row) => {
      const all = row.reduce((a, b) => a + b, 0) || 1;
      return row.map((value) => value / all);
    });
    return {
      data: [
        {
          type: "heatmap",
          z: rows,
          x: told.classes.map((_, index) => index),
          y: told.classes.map((_, index) => index),
          customdata: told.confusion,
          colorscale: [[0, colour("page")], [1, series(1)]],
          zmin: 0,
          zmax: 1,
          showscale: false,
          hovertemplate: "%{text}<br>%{customdata} images, %{z:.1%} of the class<extra></extra>",
          text: told.classes.map((real) => told.classes.map((said) => `${escaped(real)} taken for ${escaped(said)}`)),
        },
      ],
      xMore: labels(told.classes, { side: "top" }),
      yMore: labels(told.classes, { autorange: "reversed", scaleanchor: undefined }),
      margin: { l: 90, r: 10, t: 80, b: 10 },
    };
  });
}

export function calibration(place, told) {
  const filled = (bins) => (bins ?? []).filter((bin) => bin.count);
  return draw(place, () => ({
    data: [
      { type: "scatter", mode: "lines", name: "exact", x: [0, 1], y: [0, 1], line: { color: colour("soft"), dash: "dot", width: 1 } },
      points("as it is", filled(told.bins), 1),
      ...(told.calibrated ? [points("at the fitted temperature", filled(told.calibrated), 2)] : []),
    ],
    x: "confidence",
    y: "right",
    xMore: { range: [0, 1.02], tickformat: ".0%" },
    yMore: { range: [0, 1.02], tickformat: ".0%" },
  }));
}

const points = (name, bins, index) => ({
  type: "scatter",
  mode: "lines+markers",
  name,
  x: bins.map((bin) => bin.confidence),
  y: bins.map((bin) => bin.accuracy),
  customdata: bins.map((bin) => bin.count),
  hovertemplate: "confidence %{x:.1%}, right %{y:.1%}, %{customdata} images<extra></extra>",
  line: { color: series(index), width: 1.5 },
  marker: { color: series(index), size: bins.map((bin) => 5 + 2 * Math.log10(bin.count)) },
});

// Names of classes are the user's: the library takes a little HTML in them, so they are escaped.
export const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const labels = (classes, more) => ({
  tickvals: classes.length <= 40 ? classes.map((_, index) => index) : [],
  ticktext: classes.map((name) => escaped(name.length > 14 ? `${name.slice(0, 13)}…` : name)),
  showgrid: false,
  zeroline: false,
  ...more,
});

export function columns(place, groups, classes) {
  return draw(place, () => ({
    data: groups.map(([name, counts], index) => ({ type: "bar", name, x: classes.map((_, at) => at), y: counts, marker: { color: series(index + 1) }, hovertemplate: `%{text}: %{y} images<extra>${escaped(name)}</extra>`, text: classes.map(escaped), textposition: "none" })),
    barmode: "stack",
    y: "images",
    xMore: labels(classes, {}),
  }));
}
