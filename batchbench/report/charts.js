"use strict";
// Charts of plain SVG and HTML. A text from the data only ever becomes a text node.

const SVG = "http://www.w3.org/2000/svg";
const HUES = 8;
const DASHES = ["", "6 4"];
const STEPS = ["", "6 4", "2 3", "9 3 2 3", "14 4", "14 4 4 4", "1 6", "4 2 1 2 1 2"];

/** An element. attributes: set as they are, functions as listeners; children: nodes or texts. */
function make(space, tag, attributes = {}, ...children) {
  const node = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}
const h = (tag, attributes, ...children) => make(null, tag, attributes, ...children);
const s = (tag, attributes, ...children) => make(SVG, tag, attributes, ...children);

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** 756000 -> "756k". */
function short(value) {
  for (const [factor, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= factor) return `${trim(value / factor)}${letter}`;
  }
  return trim(value);
}
const trim = (value) => String(Number(value.toPrecision(3)));

// --- axes ---------------------------------------------------------------------------------

function linearTicks(low, high, most, whole) {
  const rough = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const nice = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) || power * 10;
  const step = whole ? Math.max(1, Math.round(nice)) : nice;
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high * 1.0000001; n += 1) ticks.push(n * step);
  return ticks;
}

function logTicks(low, high, most) {
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const step of steps) {
        const tick = step * 10 ** power;
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    }
    if (ticks.length <= most) return ticks;
  }
  return [low, high];
}

/** A scale: place(value) -> pixel, with ticks; values: all that must be in sight. */
function scale(axis, values, from, to, most) {
  const log = axis.scale === "log";
  let low = Math.min(...values), high = Math.max(...values);
  if (log) {
    const room = low === high ? 2 : (high / low) ** 0.04;
    low /= room; high *= room;
  } else {
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    low = axis.zero ? 0 : low - room;
    high = axis.percent ? 1 : high + room;
  }
  const shape = log ? Math.log10 : (value) => value;
  const place = (value) =>
    from + ((shape(value) - shape(low)) / (shape(high) - shape(low))) * (to - from);
  const ticks = (log ? logTicks : linearTicks)(low, high, most, axis.whole);
  const step = log || ticks.length < 2 ? 1 : ticks[1] - ticks[0];
  const text = (value) => {
    if (axis.percent) return `${Math.round(value * 100)}%`;
    return step < 1 ? value.toFixed(Math.ceil(-Math.log10(step) - 1e-9)) : short(value);
  };
  return { place, ticks, text };
}

// --- markers ------------------------------------------------------------------------------

const PLUS = [[-0.4, -1.25], [0.4, -1.25], [0.4, -0.4], [1.25, -0.4], [1.25, 0.4], [0.4, 0.4],
  [0.4, 1.25], [-0.4, 1.25], [-0.4, 0.4], [-1.25, 0.4], [-1.25, -0.4], [-0.4, -0.4]];
/** Corners around the place, in units of the size; null for a circle. */
const MARKERS = [
  null,
  [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
  [[0, -1.25], [1.15, 0.85], [-1.15, 0.85]],
  [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]],
  [[0, 1.25], [1.15, -0.85], [-1.15, -0.85]],
  PLUS,
  [[-1.05, -1.05], [1.05, -1.05], [-1.05, 1.05], [1.05, 1.05]],
  PLUS.map(([x, y]) => [(x - y) * Math.SQRT1_2, (x + y) * Math.SQRT1_2]),
];

function marker(shape, x, y, size, strong) {
  const attributes = { class: strong ? "dot" : "dot hollow" };
  const corners = MARKERS[shape % MARKERS.length];
  if (!corners) return s("circle", { ...attributes, cx: x, cy: y, r: size });
  const points = corners.map(([dx, dy]) => `${x + dx * size},${y + dy * size}`).join(" ");
  return s("polygon", { ...attributes, points });
}

const hue = (series) => `hue${series.hue % HUES}`;
const hasMarkers = (series) => series.style === "line" || series.style === "points";

function path(points, step) {
  return points
    .map(([x, y], index) => {
      if (index === 0) return `M${x} ${y}`;
      return step ? `H${x}V${y}` : `L${x} ${y}`;
    })
    .join("");
}

function dashOf(series) {
  if (series.style === "curve") return "2 3";
  const dashes = series.style === "step" ? STEPS : DASHES;
  return dashes[series.shape % dashes.length];
}

function swatch(series) {
  const icon = s("svg", { width: 30, height: 14, class: hue(series), "aria-hidden": "true" });
  if (series.style !== "points") {
    icon.append(s("path", { d: "M1 7H29", class: "line", "stroke-dasharray": dashOf(series) }));
  }
  if (hasMarkers(series)) icon.append(marker(series.shape, 15, 7, 4, true));
  return icon;
}

// --- the tip ------------------------------------------------------------------------------

const tip = {
  show(title, text, x, y) {
    const node = document.getElementById("tip");
    node.replaceChildren(h("b", {}, title), text);
    node.hidden = false;
    const box = node.getBoundingClientRect();
    const left = x + 16 + box.width > innerWidth ? x - box.width - 14 : x + 16;
    node.style.left = `${clamp(left, 6, Math.max(6, innerWidth - box.width - 6))}px`;
    node.style.top = `${clamp(y + 14, 6, Math.max(6, innerHeight - box.height - 6))}px`;
  },
  hide() { document.getElementById("tip").hidden = true; },
};
const say = (text) => { document.getElementById("said").textContent = text; };

// --- lines and points ---------------------------------------------------------------------

/** The drawing of a view, as wide as `width` pixels, and where its points are. */
function drawXY(chart, view, hidden, width) {
  const height = clamp(width * 0.56, 250, 380);
  const narrow = width < 480;
  const box = { left: 52, right: width - 14, top: 24, bottom: height - 42 };
  const shown = view.series.filter((one) => !hidden.has(one.name));
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: 0, role: "group",
    "aria-roledescription": "chart", "aria-label": `${chart.title}. Arrow keys go through the points.` });
  const all = shown.flatMap((one) => one.points);
  if (!all.length) {
    svg.append(s("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing to show"));
    return { svg, spots: [] };
  }
  const xs = all.map((p) => p.x).concat(view.marks.filter((m) => m.axis === "x").map((m) => m.at));
  const ys = all.flatMap((p) => [p.y, p.low ?? p.y, p.high ?? p.y])
    .concat(view.marks.filter((m) => m.axis === "y").map((m) => m.at));
  const x = scale(chart.x, xs, box.left, box.right, narrow ? 5 : 9);
  const y = scale(chart.y, ys, box.bottom, box.top, narrow ? 5 : 6);
  drawAxes(svg, chart, view, x, y, box);
  const spots = [];
  const lines = shown.filter((one) => one.style === "line");
  // Bars at one place would hide each other: lines stand a little apart, but for who is at a wall.
  const gap = Math.min(narrow ? 3 : 5, 14 / Math.max(1, lines.length - 1));
  const walls = view.marks.filter((m) => m.axis === "x").map((m) => m.at);
  for (const one of shown) {
    const aside = one.style === "line" ? (lines.indexOf(one) - (lines.length - 1) / 2) * gap : 0;
    drawSeries(svg, one, (at) => x.place(at) + (walls.includes(at) ? 0 : aside), y, spots);
  }
  drawMarks(svg, view.marks, x, y, box, narrow);
  return { svg, spots };
}

function drawAxes(svg, chart, view, x, y, box) {
  for (const tick of y.ticks) {
    svg.append(s("line", { class: "rule", x1: box.left, x2: box.right, y1: y.place(tick), y2: y.place(tick) }));
    svg.append(s("text", { x: box.left - 8, y: y.place(tick) + 4, "text-anchor": "end" }, y.text(tick)));
  }
  for (const tick of x.ticks) {
    svg.append(s("line", { class: "rule", x1: x.place(tick), x2: x.place(tick), y1: box.top, y2: box.bottom }));
    svg.append(s("text", { x: x.place(tick), y: box.bottom + 18, "text-anchor": "middle" }, x.text(tick)));
  }
  svg.append(s("line", { class: "base", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  svg.append(s("text", { class: "title", x: (box.left + box.right) / 2, y: box.bottom + 37, "text-anchor": "middle" }, view.x_label || chart.x.label));
  svg.append(s("text", { class: "title", x: 4, y: 11 }, chart.y.label));
}

function drawMarks(svg, marks, x, y, box, narrow) {
  for (const mark of marks) {
    if (mark.axis === "y") {
      const at = y.place(mark.at);
      svg.append(s("line", { class: "mark", x1: box.left, x2: box.right, y1: at, y2: at }));
      svg.append(s("text", { class: "marktext", x: box.right - 4, y: at - 6, "text-anchor": "end" }, mark.label));
    } else {
      const at = x.place(mark.at);
      svg.append(s("line", { class: "mark", x1: at, x2: at, y1: box.top, y2: box.bottom }));
      svg.append(s("text", { class: "marktext", transform: `translate(${at + (at + 16 > box.right ? -5 : 13)} ${box.top + 2}) rotate(-90)`, "text-anchor": "end" },
        narrow ? `≤ ${mark.at.toLocaleString("en-US")}` : mark.label));
    }
  }
}

function drawSeries(svg, series, place, y, spots) {
  const group = s("g", { class: hue(series), "data-series": series.name });
  const places = series.points.map((p) => [place(p.x), y.place(p.y)]);
  if (series.style !== "points") {
    group.append(s("path", { class: "line", d: path(places, series.style === "step"), "stroke-dasharray": dashOf(series) }));
  }
  series.points.forEach((p, index) => {
    const [px, py] = places[index];
    if (p.low !== null && p.high !== null && p.low !== p.high) {
      const [top, bottom] = [y.place(p.high), y.place(p.low)];
      group.append(s("path", { class: "bar", d: `M${px} ${bottom}V${top}M${px - 3.5} ${top}h7M${px - 3.5} ${bottom}h7` }));
    }
    if (hasMarkers(series)) group.append(marker(series.shape, px, py, 4.2, p.strong));
    if (series.style !== "curve") spots.push({ x: px, y: py, name: series.name, text: p.text });
  });
  svg.append(group);
}

/** Hover, touch and arrow keys: the nearest point tells its figures. */
function explore(svg, spots) {
  const ring = s("circle", { class: "cursor", r: 8, visibility: "hidden" });
  svg.append(ring);
  const order = spots.slice().sort((a, b) => a.x - b.x || a.y - b.y);
  let at = -1;
  const point = (spot, aloud) => {
    ring.setAttribute("cx", spot.x); ring.setAttribute("cy", spot.y);
    ring.setAttribute("visibility", "visible");
    const box = svg.getBoundingClientRect();
    const factor = box.width / svg.viewBox.baseVal.width;
    tip.show(spot.name, spot.text, box.left + spot.x * factor, box.top + spot.y * factor);
    if (aloud) say(`${spot.name}: ${spot.text}`);
  };
  const leave = () => { ring.setAttribute("visibility", "hidden"); tip.hide(); };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const factor = svg.viewBox.baseVal.width / box.width;
    const [px, py] = [(event.clientX - box.left) * factor, (event.clientY - box.top) * factor];
    let near = null, least = 45 ** 2;
    for (const spot of spots) {
      const distance = (spot.x - px) ** 2 + (spot.y - py) ** 2;
      if (distance < least) [near, least] = [spot, distance];
    }
    if (near) point(near, false); else leave();
  });
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (event.key === "Escape") return leave();
    if (!(event.key in steps) || !order.length) return undefined;
    event.preventDefault();
    at = (at + steps[event.key] + order.length) % order.length;
    return point(order[at], true);
  });
}

function xyFigures(chart, view) {
  const rows = view.series.filter((one) => one.style !== "curve").flatMap((one) =>
    one.points.map((p) => [one.name, p.x, p.y, p.low, p.high]));
  const exact = (value) => (value === null ? "" : value.toLocaleString("en-US", { maximumSignificantDigits: 5 }));
  return plainTable(["series", view.x_label || chart.x.label, chart.y.label, "from", "to"],
    rows.map((row) => [row[0], ...row.slice(1).map(exact)]), 1);
}

/** A table of texts; columns from `numeric` on are right-aligned. */
function plainTable(heads, rows, numeric) {
  const side = (index) => (index >= numeric ? "num" : null);
  return h("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "figures" },
    h("table", {},
      h("thead", {}, h("tr", {}, heads.map((head, i) => h("th", { scope: "col", class: side(i) }, head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => h("td", { class: side(i) }, cell)))))));
}

// --- heat map -----------------------------------------------------------------------------

function drawHeat(chart, view) {
  const cell = (one) => {
    const known = one.share !== null;
    const names = [known && "known", known && one.share > 0.6 && "strong", one.chosen && "chosen"];
    const node = h("td", { class: names.filter(Boolean).join(" ") || null,
      pointermove: (event) => tip.show(view.name, one.text, event.clientX, event.clientY),
      pointerleave: () => tip.hide() },
    one.label || "–", one.chosen && h("span", { class: "unseen" }, " (recommended)"));
    if (known) node.style.setProperty("--share", `${Math.round(8 + one.share * 92)}%`);
    return node;
  };
  return h("div", { class: "heat", tabindex: 0, role: "region", "aria-label": chart.title },
    h("table", {},
      h("caption", { class: "unseen" }, `${chart.title}, ${view.name}: rows a second`),
      h("thead", {}, h("tr", {}, h("th", { class: "axis" }, `${chart.y_label} ↓ ${chart.x_label} →`),
        view.columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, view.rows.map((name, index) =>
        h("tr", {}, h("th", { scope: "row" }, name), view.cells[index].map(cell))))));
}

// --- bars ---------------------------------------------------------------------------------

function drawBars(view, hidden) {
  const shown = view.parts.map((_, index) => !hidden.has(view.parts[index]));
  const sum = (bar) => bar.values.reduce((total, value, i) => total + (shown[i] ? value : 0), 0);
  const most = Math.max(...view.bars.map(sum), Number.MIN_VALUE);
  const pieces = (bar) => bar.values.map((value, index) => {
    if (!shown[index] || !value) return null;
    const piece = h("span", { class: `piece hue${index % HUES}`,
      pointermove: (event) => tip.show(bar.name, bar.texts[index], event.clientX, event.clientY),
      pointerleave: () => tip.hide() });
    piece.style.width = `${(value / most) * 100}%`;
    return piece;
  });
  return h("div", { class: "bars" }, view.bars.flatMap((bar) => [
    h("span", {}, bar.name, h("br"), h("span", { class: "note" }, `${short(sum(bar))} ${view.unit}`)),
    h("div", { class: "track", "aria-hidden": "true" }, pieces(bar))]));
}

const barFigures = (view) => plainTable(["configuration", ...view.parts],
  view.bars.map((bar) => [bar.name, ...bar.texts]), 99);

// --- a chart with its controls --------------------------------------------------------------

/** memory: what the reader chose, by chart: kept over updates. */
function chartFigure(chart, memory, full) {
  const kept = memory[chart.id] ||= { view: null, hidden: new Set() };
  const body = h("div", { class: "plot" });
  const legend = h("div", { class: "legend", role: "group", "aria-label": `${chart.title}: series` });
  const note = h("p", { class: "note" });
  const figures = h("div");
  let drawnWidth = 0;
  const viewOf = () => chart.views.find((one) => one.name === kept.view) || chart.views[chart.first];
  const paint = () => {
    const view = viewOf();
    const width = Math.max(260, Math.floor(body.clientWidth || 600));
    drawnWidth = width;
    tip.hide();
    if (chart.kind === "xy") {
      const { svg, spots } = drawXY(chart, view, kept.hidden, width);
      explore(svg, spots);
      body.replaceChildren(svg);
    } else {
      body.replaceChildren(chart.kind === "heat" ? drawHeat(chart, view) : drawBars(view, kept.hidden));
    }
  };
  const refresh = () => {
    const view = viewOf();
    const items = chart.kind === "xy" ? view.series.map((one) => [one.name, swatch(one)])
      : chart.kind === "bars" && view.parts.length > 1
        ? view.parts.map((name, i) => [name, h("span", { class: `swatch hue${i % HUES}`, "aria-hidden": "true" })]) : [];
    legend.replaceChildren(...items.map(([name, icon]) => h("button", {
      type: "button", "aria-pressed": String(!kept.hidden.has(name)),
      click: (event) => {
        if (!kept.hidden.delete(name)) kept.hidden.add(name);
        event.currentTarget.setAttribute("aria-pressed", String(!kept.hidden.has(name)));
        paint();
      } }, icon, name)));
    legend.hidden = !items.length;
    const marks = (view.marks || []).map((mark) => `${mark.text}.`);
    note.textContent = [...marks, view.note].filter(Boolean).join(" ");
    note.hidden = !note.textContent;
    figures.replaceChildren(...(chart.kind === "heat" ? [] : [h("details", {},
      h("summary", {}, "Figures as a table"),
      chart.kind === "xy" ? xyFigures(chart, view) : barFigures(view))]));
    paint();
  };
  const choice = chart.views.length > 1 && h("select", { "aria-label": `${chart.title}: view`,
    change: (event) => { kept.view = event.target.value; refresh(); } },
  chart.views.map((one) => h("option", { value: one.name, selected: one === viewOf() }, one.name)));
  const figure = h("figure", { class: full ? "card full" : "card", id: `chart-${chart.id}`, "data-chart": chart.id },
    h("div", { class: "fighead" }, h("h3", {}, chart.title), choice),
    h("figcaption", { class: "about" }, chart.about), legend, body, note, figures);
  new ResizeObserver(() => {
    const width = Math.max(260, Math.floor(body.clientWidth));
    if (chart.kind === "xy" && body.clientWidth && Math.abs(width - drawnWidth) > 2) paint();
  }).observe(body);
  requestAnimationFrame(refresh);
  return figure;
}
