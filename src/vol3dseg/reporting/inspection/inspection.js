"use strict";
// The list of cases: built from the data below, a page at a time; all text goes in as text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const perPage = 20;
  const byId = (id) => document.getElementById(id);
  const state = { page: 0, found: data.cases };

  function make(tag, content, className) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    for (const part of [content ?? []].flat()) element.append(part);
    return element;
  }

  function svg(tag, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function histogram(name, counts, [low, high, unit], note, width, height) {
    const top = Math.max(1, ...counts);
    const at = (z) => ((z - low) / (high - low)) * width;
    const label = `histogram of ${name}; ${note}`;
    const picture = svg("svg", { width, height: height + 14, viewBox: `0 0 ${width} ${height + 14}`, role: "img", "aria-label": label });
    if (low < 0 && high > 0) picture.append(svg("line", { x1: at(0), x2: at(0), y1: 0, y2: height }));
    counts.forEach((count, n) => {
      const tall = (count / top) * (height - 4);
      picture.append(svg("rect", { x: (n * width) / counts.length, y: height - tall, width: width / counts.length - 0.5, height: tall }));
    });
    const ends = [[low, "start"], [high, "end"]];
    if (at(0) > 0.25 * width && at(0) < 0.75 * width) ends.push([0, "middle"]);
    for (const [z, anchor] of ends) {
      picture.append(svg("text", { x: at(z), y: height + 11, "text-anchor": anchor }, tick(z, unit)));
    }
    return make("div", [make("strong", name), " ", make("span", note, "note"), picture], "histogram");
  }

  function tick(z, unit) {
    if (unit !== "sd") return `${z < 0 ? "\u2212" : ""}${short(Math.abs(z))} ${unit}`;
    return z === 0 ? "mean" : `${z > 0 ? "+" : "\u2212"}${Math.abs(z)} sd`;
  }

  function short(value) {
    if (value === null) return "\u2013";
    return Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 4 });
  }

  function table(head, rows) {
    const line = (cells, tag) => make("tr", cells.map((cell) => make(tag, cell)));
    return make("div", make("table", [make("thead", line(head, "th")), make("tbody", rows.map((row) => line(row, "td")))]), "scroll");
  }

  function figure(picture, id) {
    const image = make("img");
    image.src = picture.src;
    image.alt = `${id}: ${picture.alt}`;
    const caption = make("figcaption", picture.captions.map((text) => make("span", text)));
    return make("figure", [image, caption]);
  }

  function swatch(number) {
    const box = make("span", null, "swatch");
    box.style.background = data.colours[number];
    return box;
  }

  function badges(item) {
    const found = [];
    if (item.score) found.push(make("span", `suspect, score ${item.score.toFixed(1)}`, "badge suspect"));
    if (item.left_out) found.push(make("span", "left out", "badge"));
    return found;
  }

  function card(item) {
    const parts = [make("h3", [item.id, ...badges(item)])];
    const reasons = item.left_out ? [...item.reasons, `left out: ${item.left_out}`] : item.reasons;
    if (reasons.length) parts.push(make("ul", reasons.map((text) => make("li", text))));
    for (const note of item.notes) parts.push(make("p", note, "note"));
    if (item.pictures) parts.push(make("div", item.pictures.map((p) => figure(p, item.id)), "strips"));
    else parts.push(make("p", item.readable ? "No picture: not among those drawn." : "No picture: no image could be read.", "note"));
    const names = Object.keys(item.modalities);
    parts.push(make("div", names.map((name) => {
      const m = item.modalities[name];
      return histogram(name, m.histogram, m.scale, `${short(m.minimum)} to ${short(m.maximum)}`, 150, 60);
    }), "histograms"));
    const rows = names.map((name) => {
      const m = item.modalities[name];
      return [name, short(m.low), short(m.median), short(m.high), m.noise === null ? "\u2013" : m.noise.toFixed(3), `${Math.round(100 * m.inside)} %`];
    });
    const tables = [table(["modality", "1 %", "median", "99 %", "noise", "inside"], rows)];
    if (item.volumes) {
      tables.push(table(["class", "ml"], data.classes.map((name, n) => [[swatch(n), name], name in item.volumes ? short(item.volumes[name]) : "0"])));
    } else tables.push(make("p", "No label map, or none that can be used.", "note"));
    if (item.grid) tables.push(table(["geometry", ""], Object.entries(item.grid)));
    parts.push(make("div", tables, "columns"));
    return make("article", parts, item.score ? "case suspect" : "case");
  }

  function show(focus) {
    const pages = Math.max(1, Math.ceil(state.found.length / perPage));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const start = state.page * perPage, shown = state.found.slice(start, start + perPage);
    byId("list").replaceChildren(...shown.map(card));
    byId("status").textContent = shown.length
      ? `cases ${start + 1} to ${start + shown.length} of ${state.found.length}, page ${state.page + 1} of ${pages}`
      : "no case fits";
    for (const id of ["first", "previous"]) byId(id).disabled = state.page === 0;
    for (const id of ["next", "last"]) byId(id).disabled = state.page === pages - 1;
    if (focus) byId("cases").scrollIntoView();
  }

  function search() {
    const wanted = byId("search").value.trim().toLowerCase(), kind = byId("kind").value;
    const fits = { all: () => true, suspects: (c) => c.score > 0, left_out: (c) => c.left_out, drawn: (c) => c.pictures }[kind];
    state.found = data.cases.filter((c) => fits(c) && c.id.toLowerCase().includes(wanted));
    state.page = 0;
    show(false);
  }

  function turn(to) {
    state.page = to;
    show(true);
  }

  for (const [name, one] of Object.entries(data.whole)) {
    byId("whole").append(histogram(name, one.histogram, one.scale, one.note, 260, 110));
  }
  byId("search").addEventListener("input", search);
  byId("kind").addEventListener("change", search);
  byId("first").addEventListener("click", () => turn(0));
  byId("previous").addEventListener("click", () => turn(state.page - 1));
  byId("next").addEventListener("click", () => turn(state.page + 1));
  byId("last").addEventListener("click", () => turn(Infinity));
  show(false);
})();
