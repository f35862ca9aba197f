// The curve viewer of a report: one task at a time, chosen curves, values under the pointer. No library, no request.
"use strict";
(() => {
  const root = document.getElementById("viewer");
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const W = 860, H = 420, LEFT = 62, RIGHT = 14, TOP = 14, BOTTOM = 46;
  const state = { task: 0, metric: data.metrics[0].name, band: true, runs: false, hidden: new Set() };

  const node = (name, attributes = {}, text = null, space = null) => {
    const made = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  };
  const svg = (name, attributes, text = null) => node(name, attributes, text, SVG);
  const metric = () => data.metrics.find((m) => m.name === state.metric);
  const format = (value) => value === null ? "–" : metric().percent ? (100 * value).toFixed(1) + "%" : value.toFixed(2);
  const count = (value) => value.toLocaleString("en");

  // Round steps of 1, 2 or 5 times a power of ten, about `n` of them between low and high.
  const ticks = (low, high, n) => {
    const rough = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const made = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) made.push(k * step);
    return made;
  };
  // Pieces of a line between gaps, as an SVG path.
  const path = (xs, ys, px, py) => {
    let made = "", open = false;
    xs.forEach((x, k) => {
      if (ys[k] === null) { open = false; return; }
      made += `${open ? "L" : "M"}${px(x).toFixed(1)} ${py(ys[k]).toFixed(1)}`;
      open = true;
    });
    return made;
  };

  const controls = node("div", { class: "viewer-controls" });
  const choose = (label, options, changed) => {
    const box = node("label", {}, label + " ");
    const select = node("select");
    options.forEach(([value, text]) => select.append(node("option", { value }, text)));
    select.addEventListener("change", () => { changed(select.value); draw(); });
    box.append(select);
    controls.append(box);
    return select;
  };
  const tick = (label, checked, changed) => {
    const box = node("label"), input = node("input", { type: "checkbox" });
    input.checked = checked;
    input.addEventListener("change", () => { changed(input.checked); draw(); });
    box.append(input, " " + label);
    return box;
  };
  if (data.tasks.length > 1) {
    choose("task", data.tasks.map((task, k) => [k, task.name]), (value) => { state.task = Number(value); });
  }
  if (data.metrics.length > 1) {
    choose("metric", data.metrics.map((m) => [m.name, m.label]), (value) => { state.metric = value; });
  }
  controls.append(tick("95% interval", state.band, (on) => { state.band = on; }));
  controls.append(tick("each run", state.runs, (on) => { state.runs = on; }));
  const legend = node("div", { class: "viewer-legend" });
  const inputs = new Map();
  for (const curve of data.curves) {
    const box = tick(curve.text, true, (on) => on ? state.hidden.delete(curve.name) : state.hidden.add(curve.name));
    const mark = svg("svg", { width: 30, height: 10, "aria-hidden": "true" });
    mark.append(svg("line", { x1: 1, x2: 29, y1: 5, y2: 5, stroke: curve.color, "stroke-width": 3, "stroke-dasharray": curve.dash }));
    box.insertBefore(mark, box.lastChild);
    inputs.set(curve.name, box.firstChild);
    legend.append(box);
  }
  const every = (on) => () => {
    for (const [name, input] of inputs) { input.checked = on; on ? state.hidden.delete(name) : state.hidden.add(name); }
    draw();
  };
  for (const [text, on] of [["all", true], ["none", false]]) {
    const button = node("button", { type: "button" }, text);
    button.addEventListener("click", every(on));
    legend.append(button);
  }
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "viewer-picture", role: "img" });
  const about = node("p", { class: "soft" }), values = node("table", { class: "viewer-values" });
  root.append(controls, legend, picture, about, values);

  let view = null;
  function draw() {
    const task = data.tasks[state.task], shown = [];
    for (const curve of data.curves) {
      const found = (task.curves[curve.name] || {})[state.metric];
      if (found && !state.hidden.has(curve.name)) shown.push([curve, found]);
    }
    picture.replaceChildren(svg("rect", { width: W, height: H, fill: "#ffffff" }));
    picture.setAttribute("aria-label", `${metric().label} on ${task.name || "the task"}`);
    about.textContent = [task.name, task.engine, data.note].filter(Boolean).join(" · ");
    values.replaceChildren();
    view = null;
    if (!shown.length) {
      picture.append(svg("text", { x: W / 2, y: H / 2, "text-anchor": "middle", fill: "#666" }, "no curves chosen, or no runs yet"));
      return;
    }
    const present = (list) => list.filter((value) => value !== null);
    const xs = shown.flatMap(([, c]) => c.x);
    let ys = shown.flatMap(([, c]) => [...present(c.mean), ...(state.band ? [...present(c.low), ...present(c.high)] : []),
      ...(state.runs ? present((c.runs || []).flat()) : [])]);
    let low = ys.reduce((a, b) => Math.min(a, b), Infinity), high = ys.reduce((a, b) => Math.max(a, b), -Infinity);
    if (metric().percent) { low = 0; high = 1; }
    const pad = (high - low || 1) * 0.04, end = xs.reduce((a, b) => Math.max(a, b), 1);
    const px = (x) => LEFT + (W - LEFT - RIGHT) * x / end;
    const py = (y) => TOP + (H - TOP - BOTTOM) * (1 - (y - low + pad) / (high - low + 2 * pad));
    for (const y of ticks(low, high, 6)) {
      picture.append(svg("line", { x1: LEFT, x2: W - RIGHT, y1: py(y), y2: py(y), stroke: "#e4e4e4" }));
      const text = metric().percent ? Math.round(100 * y) + "%" : String(+y.toPrecision(6));
      picture.append(svg("text", { x: LEFT - 8, y: py(y) + 4, "text-anchor": "end", "font-size": 12, fill: "#444" }, text));
    }
    for (const x of ticks(0, end, 8)) {
      picture.append(svg("line", { x1: px(x), x2: px(x), y1: TOP, y2: H - BOTTOM, stroke: "#f0f0f0" }));
      const text = x >= 1e6 ? +(x / 1e6).toPrecision(4) + "M" : x >= 1e3 ? +(x / 1e3).toPrecision(4) + "k" : String(x);
      picture.append(svg("text", { x: px(x), y: H - BOTTOM + 18, "text-anchor": "middle", "font-size": 12, fill: "#444" }, text));
    }
    picture.append(svg("text", { x: (LEFT + W - RIGHT) / 2, y: H - 8, "text-anchor": "middle", "font-size": 12, fill: "#444" }, "environment steps"));
    for (const [curve, c] of shown) {
      if (state.band) {
        // A band only where every run is present, as in the figures.
        const ends = (list) => list.map((value, k) => c.n[k] === c.of ? value : null);
        let run = [];
        const close = () => {
          if (run.length > 1) {
            const up = run.map((k) => `${px(c.x[k]).toFixed(1)} ${py(c.high[k]).toFixed(1)}`);
            const down = run.map((k) => `${px(c.x[k]).toFixed(1)} ${py(c.low[k]).toFixed(1)}`).reverse();
            picture.append(svg("path", { d: "M" + [...up, ...down].join("L") + "Z", fill: curve.color, "fill-opacity": 0.14 }));
          }
          run = [];
        };
        ends(c.low).forEach((value, k) => { value === null ? close() : run.push(k); });
        close();
      }
      if (state.runs) {
        for (const run of c.runs || []) {
          picture.append(svg("path", { d: path(c.x, run, px, py), fill: "none", stroke: curve.color, "stroke-width": 0.8, "stroke-opacity": 0.45 }));
        }
      }
    }
    for (const [curve, c] of shown) {
      picture.append(svg("path", { d: path(c.x, c.mean, px, py), fill: "none", stroke: curve.color, "stroke-width": 2.2, "stroke-dasharray": curve.dash, "stroke-linejoin": "round" }));
    }
    const line = svg("line", { y1: TOP, y2: H - BOTTOM, stroke: "#888", visibility: "hidden" });
    const dots = svg("g", {});
    picture.append(line, dots);
    view = { shown, px, py, end, line, dots };
    point(end);
  }

  // Show the values at the grid step nearest to `step`.
  function point(step) {
    if (!view) return;
    const grid = [...new Set(view.shown.flatMap(([, c]) => c.x))];
    const at = grid.reduce((best, x) => Math.abs(x - step) < Math.abs(best - step) ? x : best, grid[0]);
    view.line.setAttribute("x1", view.px(at));
    view.line.setAttribute("x2", view.px(at));
    view.line.setAttribute("visibility", "visible");
    view.dots.replaceChildren();
    const head = node("tr");
    for (const text of [`step ${count(at)}`, metric().label, "95% interval", "runs"]) head.append(node("th", {}, text));
    const rows = [];
    for (const [curve, c] of view.shown) {
      const k = c.x.indexOf(at);
      if (k < 0 || c.mean[k] === null) continue;
      view.dots.append(svg("circle", { cx: view.px(at), cy: view.py(c.mean[k]), r: 4, fill: curve.color, stroke: "#fff" }));
      const row = node("tr"), name = node("td");
      name.append(node("span", { class: "viewer-dot", style: `background:${curve.color}` }), " " + curve.text);
      const interval = c.low[k] === null ? "–" : `${format(c.low[k])} to ${format(c.high[k])}`;
      row.append(name, node("td", {}, format(c.mean[k])), node("td", {}, interval), node("td", {}, c.n[k] === c.of ? String(c.of) : `${c.n[k]} of ${c.of}`));
      rows.push([c.mean[k], row]);
    }
    rows.sort((a, b) => b[0] - a[0]);
    values.replaceChildren(head, ...rows.map((pair) => pair[1]));
  }
  picture.addEventListener("pointermove", (event) => {
    if (!view) return;
    const box = picture.getBoundingClientRect();
    const x = (event.clientX - box.left) * W / box.width;
    point((x - LEFT) / (W - LEFT - RIGHT) * view.end);
  });
  draw();
})();
