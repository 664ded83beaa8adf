"use strict";
// The table of all cases: a page of rows at a time; all text goes in as text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const perPage = 50;
  const byId = (id) => document.getElementById(id);
  const titles = ["case", "structure", ...data.columns];
  const state = { page: 0, column: -1, down: false, found: data.rows };

  function make(tag, content, attributes) {
    const element = document.createElement(tag);
    element.append(content ?? "");
    for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
    return element;
  }

  function written(value, digits) {
    return value === null ? "\u2013" : value.toFixed(digits);
  }

  function line(row) {
    const cells = row.slice(2).map((value, n) => make("td", written(value, data.digits[n])));
    const name = make("th", data.cases[row[0]], { scope: "row" });
    const tr = make("tr", name);
    tr.append(make("td", data.structures[row[1]], { class: "text" }), ...cells);
    return tr;
  }

  const buttons = titles.map((title, column) => {
    const button = make("button", title, { type: "button" });
    button.addEventListener("click", () => sort(column));
    return button;
  });
  const heads = buttons.map((button) => make("th", button, { scope: "col", "aria-sort": "none" }));
  byId("rows").tHead.append(make("tr"));
  byId("rows").tHead.rows[0].append(...heads);

  // What a row is sorted by; undefined scores are last either way.
  function key(row) {
    if (state.column === 0) return data.cases[row[0]];
    return row[state.column];
  }

  function compare(one, other) {
    const a = key(one), b = key(other);
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
    return state.down ? -order : order;
  }

  function sort(column) {
    state.down = state.column === column && !state.down;
    state.column = column;
    heads.forEach((head, n) => head.setAttribute("aria-sort", n !== column ? "none" : state.down ? "descending" : "ascending"));
    find();
  }

  function find() {
    const wanted = byId("search").value.trim().toLowerCase(), structure = byId("structure").value;
    state.found = data.rows.filter((row) =>
      data.cases[row[0]].toLowerCase().includes(wanted) && (structure === "" || row[1] === Number(structure)));
    if (state.column >= 0) state.found.sort(compare);
    turn(0);
  }

  function turn(to) {
    const pages = Math.max(1, Math.ceil(state.found.length / perPage));
    state.page = Math.min(Math.max(to, 0), pages - 1);
    const start = state.page * perPage, shown = state.found.slice(start, start + perPage);
    byId("rows").tBodies[0].replaceChildren(...shown.map(line));
    byId("status").textContent = shown.length
      ? `rows ${start + 1} to ${start + shown.length} of ${state.found.length}, page ${state.page + 1} of ${pages}`
      : "no row fits";
    for (const id of ["first", "previous"]) byId(id).disabled = state.page === 0;
    for (const id of ["next", "last"]) byId(id).disabled = state.page === pages - 1;
  }

  data.structures.forEach((name, n) => byId("structure").append(make("option", name, { value: n })));
  byId("search").addEventListener("input", find);
  byId("structure").addEventListener("change", find);
  byId("first").addEventListener("click", () => turn(0));
  byId("previous").addEventListener("click", () => turn(state.page - 1));
  byId("next").addEventListener("click", () => turn(state.page + 1));
  byId("last").addEventListener("click", () => turn(Infinity));
  turn(0);
})();
