/* Draws the plots, and lets the filters leave out points, curves and table rows. Data: #report-data. */
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("report-data").textContent);
  for (const plot of data.plots)  // names stand once in a list
    for (const trace of plot.data) {
      if (plot.rows) trace.y = trace.y.map((n) => data.labels[n]);
      else if (trace.meta) trace.name = data.labels[trace.name];
    }
  const fields = ["model", "input", "threads", "place"];
  const form = document.getElementById("filters");
  const shown = document.getElementById("shown");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const PAPER = 690;  // px: A4 without its margins
  const LEGEND = 60;  // curves in a legend: more make it slow
  let printing = false;

  const select = (field) => form.elements.namedItem(field);
  const chosen = () => fields.map((field) => (select(field).value === "" ? -1 : Number(select(field).value)));
  const fits = (slice, wanted, free) =>
    slice.every((value, n) => wanted[n] < 0 || free.includes(fields[n]) ||
      (Array.isArray(value) ? value.includes(wanted[n]) : value < 0 || value === wanted[n]));

  /* A trace without the points that `keep` leaves out: every list as long as its points is one of them. */
  function masked(trace, keep) {
    const pick = (value) => {
      if (Array.isArray(value)) return value.length === keep.length ? value.filter((_, n) => keep[n]) : value;
      if (value === null || typeof value !== "object") return value;
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, pick(inner)]));
    };
    return pick(trace);
  }

  function caseName(number) {
    const [model, input, threads] = data.slices[number];
    const parts = [];
    if (data.names.model.length > 1 && chosen()[0] < 0) parts.push(plain(data.names.model[model]));
    if (input >= 0) parts.push(plain(data.names.input[input]));
    if (threads >= 0) parts.push(data.names.threads[threads] + (data.names.threads[threads] === 1 ? " thread" : " threads"));
    return parts.join(" · ");
  }

  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  /* What is shown beside a strategy's name where several of it are shown. */
  function suffix(plot, numbers) {
    const cases = new Set(numbers.map(caseName)), places = new Set(numbers.map((number) => data.slices[number][3]));
    return (number) => {
      const parts = [];
      if (plot.told.includes("case") && cases.size > 1) parts.push(caseName(number));
      if (plot.told.includes("place") && places.size > 1) parts.push(plain(data.names.place[data.slices[number][3]]));
      return parts.length ? " · " + parts.join(" · ") : "";
    };
  }

  /* Lines of at most so many letters, broken where a strategy's name has a joint. */
  function wrapped(label, width) {
    const lines = [""];
    for (const part of label.match(/[^+/:,· ]*[+/:,· ]*|./gu) || []) {
      const last = lines[lines.length - 1];
      if (last && last.length + part.trimEnd().length > width) lines.push(part); else lines[lines.length - 1] = last + part;
    }
    return lines.map((line) => line.trim()).filter(Boolean).join("<br>");
  }

  function pickedTraces(plot, allowed) {
    const points = plot.data.filter((trace) => trace.customdata);
    const most = Math.max(20, Math.floor(data.most / Math.max(1, points.length)));
    let left = 0;
    const traces = [];
    for (const trace of plot.data) {
      if (trace.meta) { if (allowed[trace.meta.slice]) traces.push(trace); continue; }
      if (!trace.customdata) { traces.push(trace); continue; }
      let count = 0;
      const keep = trace.customdata.map((slice) => allowed[slice] && ++count <= most);
      left += Math.max(0, count - most);
      if (count) traces.push(masked(trace, keep));
    }
    return { traces, left };
  }

  function drawn(plot, element, width) {
    const wanted = chosen();
    const allowed = data.slices.map((slice) => fits(slice, wanted, plot.free));
    const narrow = width < 600;
    let { traces, left } = pickedTraces(plot, allowed);
    const numbers = traces.flatMap((trace) => (trace.meta ? [trace.meta.slice] : trace.customdata || []));
    const more = suffix(plot, numbers);
    const letters = narrow ? 21 : 46;
    let note = left ? left + " more points are not drawn: narrow the filters. The table has them all." : "";
    let order = [];
    if (plot.rows) {
      const best = new Map();
      traces = traces.map((trace) => {
        const y = trace.y.map((name, n) => wrapped(name + (trace.customdata ? more(trace.customdata[n]) : ""), letters));
        // the best on top: the largest gain, the shortest latency; boxes of the strategies decide, not their baselines'
        y.forEach((name, n) => {
          const value = trace.median ? (trace.name === "strategy" ? -trace.median[n] : -Infinity) : trace.x[n];
          best.set(name, Math.max(value, best.has(name) ? best.get(name) : -Infinity));
        });
        return { ...trace, y };
      });
      order = [...best.keys()];
      if (plot.sorted) order.sort((one, other) => best.get(one) - best.get(other)); else order.reverse();
    }
    if (plot.curves) {
      const own = traces.filter((trace) => trace.meta);
      const rest = traces.filter((trace) => !trace.meta);
      const fewer = narrow || printing;
      const kept = fewer ? own.slice(0, plot.curves) : own.slice(0, LEGEND);
      if (own.length > plot.curves)
        note = plot.curves + " of " + own.length + " curves are drawn" +
          (fewer ? ": narrow the filters for others." : "; a click on a name in the legend shows or hides its curve." +
            (own.length > LEGEND ? " The first " + LEGEND + " are in it." : ""));
      traces = kept.map((trace, n) => ({ ...plot.common, ...trace, ...styleOf(n), name: wrapped(trace.name + more(trace.meta.slice), letters),
        visible: n < plot.curves ? true : "legendonly" })).concat(own.length ? rest : []);
    }
    const empty = numbers.length === 0 && plot.data.some((trace) => trace.meta || trace.customdata);
    element.closest("figure").querySelector(".note").textContent = empty ? "Nothing fits these filters here." : note;
    element.hidden = empty;
    return { traces, layout: layoutOf(plot, width, narrow, order, traces) };
  }

  function styleOf(n) {
    const { colours, dashes, symbols } = data.styles;
    const color = colours[n % colours.length];
    return { line: { color, dash: dashes[Math.floor(n / colours.length) % dashes.length] },
      marker: { color, size: 6, symbol: symbols[n % symbols.length] } };
  }

  const flat = (value) => (Array.isArray(value) ? value : []);

  /* Round numbers along a logarithmic axis, the closer the less it spans. */
  function ticksOf(traces, side, prefix) {
    const numbers = (trace) => {
      const bars = trace["error_" + side] || {};
      const own = flat(trace[side]).filter((value) => typeof value === "number");
      return [...own, ...own.map((value, n) => value + (flat(bars.array)[n] || 0)),
        ...own.map((value, n) => value - (flat(bars.arrayminus)[n] || 0)),
        ...(side === "x" ? [...flat(trace.lowerfence), ...flat(trace.upperfence)] : [])];
    };
    const ends = (which) => {
      const all = which.flatMap(numbers).filter((value) => value > 0);
      return [Math.min(...all), Math.max(...all)];
    };
    const [low, high] = ends(traces.filter((trace) => trace.visible !== "legendonly"));
    const [least, most] = ends(traces);
    if (least === most) return { tickvals: [least], ticktext: [(prefix || "") + least] };
    const span = high / low;
    const steps = span > 12 ? [1, 2, 5] : span > 3 ? [1, 1.5, 2, 3, 4, 5, 7]
      : [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9];
    const values = [];
    if (span < 1.4) {
      const power = 10 ** Math.floor(Math.log10((most - least) / 6 || 0.01));
      const step = [1, 2, 5, 10].find((one) => one * power >= (most - least) / 6) * power || 0.01;
      for (let n = Math.ceil((least * 0.98) / step); n * step <= most * 1.02; n += 1) values.push(Number((n * step).toPrecision(6)));
    } else for (let power = Math.floor(Math.log10(least)) - 1; power <= Math.ceil(Math.log10(most)); power += 1)
      for (const step of steps) {
        const value = Number((step * 10 ** power).toPrecision(4));
        if (value >= least * 0.9 && value <= most * 1.1) values.push(value);
      }
    const thin = Math.ceil(values.length / 14);
    const kept = values.filter((value, n) => n % thin === 0 || value === 1);
    return { tickvals: kept, ticktext: kept.map((value) => (prefix || "") + value) };
  }

  function layoutOf(plot, width, narrow, order, shown) {
    const traces = shown.length;
    const style = getComputedStyle(document.documentElement);
    const ink = printing ? "#000" : style.getPropertyValue("--ink").trim();
    const soft = style.getPropertyValue("--soft").trim();
    const line = printing ? "#bbb" : style.getPropertyValue("--line").trim();
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
    const layout = JSON.parse(JSON.stringify(plot.layout));
    for (const name of new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis/.test(key))])) {
      layout[name] = { ...axis, ...layout[name] };
      if (plot.rows && name === "xaxis") layout[name].side = "top";  // where one looks first: such plots are tall
      if (name.startsWith("x")) layout[name].title = { standoff: 8, ...layout[name].title };
      if (layout[name].type === "log" && !layout[name].tickvals && /^[xy]axis$/.test(name) && !plot.name.startsWith("weight"))
        Object.assign(layout[name], ticksOf(shown, name[0], layout[name].tickprefix), { tickprefix: "" });
    }
    let row = 0;
    if (plot.rows) {
      layout.yaxis = { ...layout.yaxis, type: "category", tickfont: { size: narrow ? 10 : 12 },
        categoryorder: "array", categoryarray: order, range: [-0.7, order.length - 0.3] };
      const tallest = Math.max(1, ...order.map((name) => name.split("<br>").length));
      const places = layout.scattermode ? new Set(shown.map((trace) => trace.offsetgroup)).size : 1;
      row = Math.max(24, tallest * (narrow ? 12 : 15) + 5, places * 13 + 8);
    }
    const beside = plot.curves && !narrow && !printing;
    const legend = beside ? { x: 1.01, y: 1, font: { size: 11 } }
      : { orientation: "h", x: 0, xanchor: "left", y: plot.rows ? 0 : 1, yanchor: plot.rows ? "top" : "bottom", font: { size: narrow ? 10 : 12 } };
    const names = 16 + (narrow ? 22 : 14) * (plot.curves ? traces : Math.min(4, traces));
    const above = beside ? 20 : plot.rows ? 70 : 14 + names;
    const below = plot.rows ? (traces > 1 || layout.showlegend ? names : 16) : 50;
    return { ...layout, width, height: plot.rows ? Math.max(160, order.length * row + above + below) : (narrow ? 330 : 420) + (beside ? 0 : above - 20),
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: narrow ? 11 : 13 },
      margin: { l: narrow ? 40 : 60, r: beside ? 20 : 14, t: above, b: below }, legend, showlegend: traces > 1 || Boolean(plot.curves) || Boolean(layout.showlegend),
      hoverlabel: { font: { size: 12 } }, modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink }, dragmode: narrow ? false : "zoom", hovermode: "closest" };
  }

  // named one by one: others that the library offers would send the plot to a server
  const config = { displaylogo: false, responsive: false, showSendToCloud: false, showEditInChartStudio: false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };
  const drawnOnce = new Set();

  function draw(plot) {
    const element = document.getElementById("plot-" + plot.name);
    if (!element || typeof Plotly === "undefined") return;
    const width = printing ? PAPER : Math.max(280, element.parentElement.clientWidth);
    const { traces, layout } = drawn(plot, element, width);
    drawnOnce.add(plot.name);
    element.style.minHeight = "0";  // it was room for what was to come
    if (!element.hidden) Plotly.react(element, traces, layout, { ...config, displayModeBar: width < 600 || printing ? false : "hover" });
  }

  const redraw = (every) => data.plots.forEach((plot) => { if (every || drawnOnce.has(plot.name)) draw(plot); });

  /* A choice that the other filters leave nothing of cannot be made. */
  function offer(wanted) {
    fields.forEach((field, n) => {
      const others = wanted.map((value, m) => (m === n ? -1 : value));
      const possible = new Set(data.slices.filter((slice) => fits(slice, others, [])).flatMap((slice) => slice[n]));
      for (const option of select(field).options)
        option.disabled = option.value !== "" && !possible.has(Number(option.value)) && Number(option.value) !== wanted[n];
    });
  }

  function apply() {
    const wanted = chosen();
    const allowed = data.slices.map((slice) => fits(slice, wanted, []));
    let rows = 0, every = 0;
    for (const row of document.querySelectorAll("[data-k]")) {
      row.hidden = !allowed[Number(row.dataset.k)];
      if (row.dataset.n !== undefined) { every += 1; rows += row.hidden ? 0 : 1; }
    }
    for (const part of document.querySelectorAll("figure[data-part]")) {
      const plot = data.plots.find((one) => one.name === part.dataset.part);
      part.hidden = !plot.data.some((trace) => trace.customdata.some((slice) => allowed[slice]));
    }
    for (const note of document.querySelectorAll("[data-none]"))  // of a section whose parts are all left out
      note.hidden = [...note.parentElement.querySelectorAll("div[data-k], figure[data-part]")].some((part) => !part.hidden);
    shown.value = rows + " of " + every + " cases shown";
    offer(wanted);
    redraw(false);
  }

  function start() {
    for (const field of fields) {
      const first = data.start[field];
      data.names[field].forEach((name, n) => select(field).add(new Option(String(name), String(n), false, name === first)));
      select(field).closest("label").hidden = data.names[field].length < 2;
    }
    form.hidden = data.slices.length < 2;
    form.addEventListener("change", apply);
    form.addEventListener("reset", () => setTimeout(() => { fields.forEach((field) => { select(field).value = ""; }); apply(); }));
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  /* Plots are drawn when they come near the window. */
  function watch() {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const plot = entry.isIntersecting && data.plots.find((one) => "plot-" + one.name === entry.target.id);
        if (plot && !drawnOnce.has(plot.name)) draw(plot);
      }
    }, { rootMargin: "600px" });
    document.querySelectorAll(".plot").forEach((element) => seen.observe(element));
    let width = innerWidth, timer = 0;
    addEventListener("resize", () => {
      if (innerWidth === width || printing) return;
      width = innerWidth;
      clearTimeout(timer);
      timer = setTimeout(() => redraw(false), 150);
    });
    dark.addEventListener("change", () => redraw(false));
    addEventListener("beforeprint", () => {
      printing = true;
      document.querySelectorAll("details").forEach((element) => { element.open = true; });
      redraw(true);
    });
    addEventListener("afterprint", () => { printing = false; redraw(false); });
  }

  /* The plotting library lies packed in the page, and comes to life as a script whose digest the page's policy names. */
  async function unpack() {
    const packed = document.getElementById("library");
    if (!packed) return;  // it came as a file
    const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    packed.replaceWith(script);
    if (typeof Plotly === "undefined") throw new Error("the plotting library did not start");
  }

  start();
  unpack().then(watch, () => {
    for (const note of document.querySelectorAll("figure .note"))
      note.textContent = "This browser is too old to draw plots; the tables have their numbers.";
  });
})();
