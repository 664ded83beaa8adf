// The page: what a case has is asked of the server; NiiVue draws it. All text goes in as text.
const { NVImage, Niivue } = window.niivue;

const MAPS = ["prediction", "reference"];
const LAYOUTS = { "planes and 3-D": 3, axial: 0, coronal: 1, sagittal: 2, "3-D": 4, "all images": 0 };  // of NiiVue
const SEVERAL = "all images";  // side by side, axial
const NOT_JUDGED = 255;  // class index of voxels that the reference leaves out
const byId = (id) => document.getElementById(id);

const OPTIONS = {
  isRadiologicalConvention: true,  // as all pictures of vol3dseg
  multiplanarShowRender: 1,  // always
  show3Dcrosshair: true,
  crosshairColor: [1, 1, 1, 0.7],
  crosshairWidthUnit: "percent",
  crosshairWidth: 0.25,
  dragAndDropEnabled: false,
  viewModeHotKey: "",
  clipPlaneHotKey: "",
  cycleClipPlaneHotKey: "",
  logLevel: "error",
};
const viewers = [];  // one, or one for each image where all are shown side by side
const state = {
  cases: [],
  number: -1,
  turn: 0,  // counts what was asked for: what comes late is of no use
  facts: null,
  images: [],
  image: "",  // by name, so that the next case shows the same
  layout: "planes and 3-D",
  drawn: Promise.resolve(),
  maps: {},
  opacity: { prediction: 0.6, reference: 0 },
};

function make(tag, content, attributes = {}) {
  const element = document.createElement(tag);
  for (const part of [content ?? []].flat()) element.append(part);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function swatch(colour) {
  const square = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({ width: 12, height: 12, class: "swatch" })) square.setAttribute(name, value);
  const fill = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width: 12, height: 12, fill: colour })) fill.setAttribute(name, value);
  square.append(fill);
  return square;
}

function buttons(place, names, chosen, choose) {
  byId(place).replaceChildren(...names.map((name) => {
    const button = make("button", name, { "aria-pressed": name === chosen, title: name });
    button.addEventListener("click", () => {
      for (const each of byId(place).children) each.setAttribute("aria-pressed", each === button);
      choose(name);
    });
    return button;
  }));
}

const short = (value) => value === null ? "–" : Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));

// --- what comes from the server --------------------------------------------------------------------

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(answer.status === 422 ? await answer.text() : `${path}: ${answer.statusText}`);
  return answer;
}

const json = async (path) => (await get(path)).json();

async function volume(name) {
  const content = await (await get(`case/${state.number}/${name}.nii`)).arrayBuffer();
  return NVImage.loadFromUrl({ url: content, name: `${name}.nii` });
}

function problem(name, text) {
  byId("problems").append(make("li", `${name}: ${text}`));
}

async function attempt(name, work) {
  try {
    return await work();
  } catch (error) {
    problem(name, error.message);
    return null;
  }
}

// --- a case ----------------------------------------------------------------------------------------

async function open(number, mm) {
  const turn = ++state.turn;
  const late = () => turn !== state.turn;
  document.body.dataset.state = "loading";
  Object.assign(state, { number, images: [], maps: {} });
  byId("status").textContent = "loading …";
  byId("problems").replaceChildren();
  byId("scores").replaceChildren();
  byId("scored").hidden = true;
  byId("values").tBodies[0].replaceChildren();
  byId("case").value = number;
  byId("previous").disabled = number === 0;
  byId("next").disabled = number === state.cases.length - 1;
  byId("place").textContent = `case ${number + 1} of ${state.cases.length}`;
  document.title = `${state.cases[number]} – vol3dseg view`;
  const facts = await attempt("case", () => json(`case/${number}/facts.json`));
  if (late()) return;
  if (facts === null) return done("failed");
  state.facts = facts;
  for (const [name, text] of Object.entries(facts.problems)) problem(name, text);
  const images = [], maps = {};
  for (const [n, name] of facts.images.entries()) {
    byId("status").textContent = `loading ${name} …`;
    images.push(await attempt(name, () => volume(`image-${n}`)));
    if (late()) return;
  }
  for (const name of facts.maps) {
    byId("status").textContent = `loading ${name} …`;
    maps[name] = await attempt(name, () => volume(name));
    if (late()) return;
    maps[name]?.setColormapLabel(colours(facts.classes));
  }
  Object.assign(state, { images, maps });
  const there = facts.images.filter((_, n) => images[n]);
  if (!there.length) return done("failed");
  if (!there.includes(state.image)) state.image = there[0];
  buttons("images", there, state.image, (name) => { state.image = name; show(); });
  layouts();
  legend();
  await show(mm ?? facts.start ?? middle(images.find(Boolean)));
  if (late()) return;
  done("ready");
  if (facts.maps.length === 2) await scores(number, late);
}

function done(how) {
  byId("status").textContent = "";
  document.body.dataset.state = how;
}

// NiiVue takes whatever stands in the first two of 256 parts of the table for what comes next: hence
// the negative indices, which nothing has.
function colours(classes) {
  const parts = (at) => [0, 0, ...classes.map((each) => parseInt(each.colour.slice(at, at + 2), 16)), 128];
  const indices = [-8, ...classes.keys(), classes.length, NOT_JUDGED];
  return { R: parts(1), G: parts(3), B: parts(5), A: indices.map((n) => n > 0 ? 255 : 0), I: indices };
}

function layouts() {
  const names = Object.keys(LAYOUTS).filter((name) => name !== SEVERAL || state.images.length > 1);
  buttons("layout", names, state.layout, (name) => { state.layout = name; show(); });
}

function legend() {
  const { classes, maps } = state.facts;
  byId("overlays").hidden = !maps.length;
  byId("classes").replaceChildren(...classes.map((each) => make("li", [swatch(each.colour), each.name])));
  for (const name of MAPS) byId(`of-${name}`).hidden = !maps.includes(name);
  if (maps.length === 1) state.opacity[maps[0]] ||= 0.6;
  for (const name of MAPS) tellOpacity(name);
}

function tellOpacity(name) {
  byId(name).value = state.opacity[name];
  byId(`${name}-value`).textContent = `${Math.round(100 * state.opacity[name])} %`;
}

const chosen = () => state.images[state.facts.images.indexOf(state.image)];
const shown = () => state.layout === SEVERAL ? state.images.filter(Boolean) : [chosen()];

// One after the other, however fast somebody clicks.
function show(mm) {
  state.drawn = state.drawn.then(() => draw(mm)).catch((error) => problem("view", error.message));
  return state.drawn;
}

async function draw(mm = position()) {
  if (!chosen()) return;
  const images = shown(), maps = MAPS.map((name) => state.maps[name]).filter(Boolean);
  for (const name of MAPS) if (state.maps[name]) state.maps[name].opacity = state.opacity[name];
  for (const image of images) image.proposed ??= [image.cal_min, image.cal_max];
  await panels(images.length);
  for (const [n, image] of images.entries()) {
    const viewer = viewers[n];
    Object.assign(viewer, { volumes: [image, ...maps], back: image, overlays: maps });
    viewer.opts.sliceType = LAYOUTS[state.layout];
    viewer.updateGLVolume();
    viewer.canvas.nextElementSibling.textContent = state.facts.images[state.images.indexOf(image)];
  }
  setSliders(chosen());
  moveTo(mm);
}

// Make or remove canvases until there are so many.
async function panels(count) {
  byId("panels").classList.toggle("several", count > 1);
  while (viewers.length > count) {
    const viewer = viewers.pop();
    viewer.cleanup();
    viewer.gl.getExtension("WEBGL_lose_context")?.loseContext();
    byId("panels").lastElementChild.remove();
  }
  while (viewers.length < count) {
    const viewer = new Niivue(OPTIONS), canvas = make("canvas");
    byId("panels").append(make("figure", [canvas, make("figcaption")]));
    viewers.push(viewer);
    await viewer.attachToCanvas(canvas);
    viewer.onLocationChange = () => moveTo(position(viewer), viewer);
    viewer.onIntensityChange = (image) => { if (image === chosen()) tellWindow(image); };
  }
}

async function scores(number, late) {
  byId("scored").hidden = false;
  byId("scores").replaceChildren(make("caption", "computing …"));
  const found = await attempt("scores", () => json(`case/${number}/scores.json`));
  if (late()) return;
  const rows = Object.entries(found ?? {});
  const metrics = [...new Set(rows.flatMap(([, values]) => Object.keys(values)))];
  const head = make("tr", ["", ...rows.map(([name]) => name)].map((text) => make("th", text, { scope: "col" })));
  const body = metrics.map((metric) => make("tr", [
    make("th", metric.replaceAll("_", " "), { scope: "row" }),
    ...rows.map(([, values]) => make("td", short(values[metric] ?? null))),
  ]));
  byId("scores").replaceChildren(make("thead", head), make("tbody", body));
}

// --- window and level ------------------------------------------------------------------------------

function setSliders(image) {
  const { global_min: low, global_max: high } = image;
  const step = (high - low) / 500 || 1;
  for (const [name, least, most] of [["level", low, high], ["window", step, high - low || 1]]) {
    Object.assign(byId(name), { min: least, max: most, step: "any" });
  }
  tellWindow(image);
}

function tellWindow(image) {
  byId("level").value = (image.cal_max + image.cal_min) / 2;
  byId("window").value = image.cal_max - image.cal_min;
  byId("level-value").textContent = short((image.cal_max + image.cal_min) / 2);
  byId("window-value").textContent = short(image.cal_max - image.cal_min);
}

function setWindow(low, high) {
  const image = chosen();
  if (!image) return;
  [image.cal_min, image.cal_max] = [low, high];
  tellWindow(image);
  viewers.find((viewer) => viewer.volumes[0] === image).updateGLVolume();
}

// --- the crosshair ---------------------------------------------------------------------------------

const position = (viewer = viewers[0]) => [...viewer.frac2mm(viewer.scene.crosshairPos, 0, true)].slice(0, 3);
const middle = (image) => [...image.convertFrac2MM([0.5, 0.5, 0.5], true)].slice(0, 3);
const written = (mm) => mm.map((value) => value.toFixed(1)).join(", ");

// Move the crosshair, but for that of the viewer in which it was moved.
function moveTo(mm, mover) {
  for (const viewer of viewers) {
    if (viewer === mover || !viewer.volumes.length) continue;
    const place = viewer.mm2frac(mm, 0, true);
    viewer.scene.crosshairPos = place.map((part) => Math.min(Math.max(part, 0), 1));
    viewer.drawScene();
  }
  tell(mm);
}

function at(image, mm) {
  const [i, j, k] = image.mm2vox(mm);
  const [, ni, nj, nk] = image.dimsRAS;
  const inside = i >= 0 && j >= 0 && k >= 0 && i < ni && j < nj && k < nk;
  return inside ? image.getValue(i, j, k) : null;
}

function className(index) {
  if (index === null) return "outside";
  if (index === NOT_JUDGED) return "not judged";
  const found = state.facts.classes[index - 1];
  return found ? [swatch(found.colour), found.name] : "background";
}

function tell(mm) {
  if (!state.images.length) return;
  if (document.activeElement !== byId("mm")) byId("mm").value = written(mm);
  const rows = state.facts.images
    .map((name, n) => [name, state.images[n]])
    .filter(([, image]) => image)
    .map(([name, image]) => make("tr", [make("td", name), make("td", short(at(image, mm)))]));
  for (const name of MAPS) {
    if (state.maps[name]) rows.push(make("tr", [make("td", name), make("td", className(at(state.maps[name], mm)))]));
  }
  byId("values").tBodies[0].replaceChildren(...rows);
  const fragment = `#case=${encodeURIComponent(state.cases[state.number])}&mm=${written(mm).replaceAll(" ", "")}`;
  if (location.hash !== fragment) history.replaceState(null, "", fragment);
}

const numbers = (text) => {
  const mm = text.split(/[,;\s]+/).filter(Boolean).map(Number);
  return mm.length === 3 && mm.every(Number.isFinite) ? mm : null;
};

// `#case=<id>&mm=x,y,z`: where a link leads to.
async function follow() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const mm = numbers(asked.get("mm") ?? "");
  const name = asked.get("case");
  const number = name === null ? Math.max(state.number, 0) : state.cases.indexOf(name);
  if (number !== state.number && number >= 0) await open(number, mm);
  else if (number >= 0 && mm && viewers[0].volumes.length) moveTo(mm);
  else if (state.number < 0) await open(0, mm);
  if (number < 0) problem("link", `there is no case ${name}`);
}

// --- what the user does ----------------------------------------------------------------------------

function step(by) {
  const number = state.number + by;
  if (number >= 0 && number < state.cases.length) open(number);
}

function listen() {
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("case").addEventListener("change", (event) => open(Number(event.target.value)));
  for (const name of ["level", "window"]) {
    byId(name).addEventListener("input", () => {
      const level = Number(byId("level").value), half = Number(byId("window").value) / 2;
      setWindow(level - half, level + half);
    });
  }
  byId("reset").addEventListener("click", () => setWindow(...chosen()?.proposed ?? []));
  for (const name of MAPS) {
    byId(name).addEventListener("input", (event) => {
      state.opacity[name] = Number(event.target.value);
      tellOpacity(name);
      if (!state.maps[name]) return;
      state.maps[name].opacity = state.opacity[name];
      for (const viewer of viewers) viewer.updateGLVolume();
    });
  }
  byId("go").addEventListener("submit", (event) => {
    event.preventDefault();
    const mm = numbers(byId("mm").value);
    byId("mm").blur();
    if (viewers[0]?.volumes.length) moveTo(mm ?? position());
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "PageDown") step(1);
    else if (event.key === "PageUp") step(-1);
    else return;
    event.preventDefault();
  });
  window.addEventListener("hashchange", follow);
}

async function start() {
  listen();
  await panels(1);
  const found = await json("cases.json");
  state.cases = found.cases;
  byId("case").replaceChildren(...state.cases.map((name, n) => make("option", name, { value: n })));
  byId("walk").hidden = false;
  for (const id of ["previous", "next", "place"]) byId(id).hidden = state.cases.length < 2;
  await follow();
}

start().catch((error) => {
  problem("page", error.message);
  done("failed");
});
