// The page itself: state, filters, navigation and keys.

const $ = (id) => document.getElementById(id);
const state = {
  step: null, other: null, problem: null, open: null, repeats: true,
  query: "", verdict: "", finish: "", status: "", order: "batch", answers: "sample", colour: "entropy",
};
const SELECTS = ["verdict", "finish", "status", "order", "answers", "colour"];
const unpacked = new Map(); // step -> promise of its groups; the last few are kept
let overview, groups = [], otherGroups = [], listed = [];

// The JSON in one of the data blocks of the page.
async function unpack(id) {
  const bytes = Uint8Array.from(atob($(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function groupsOf(step) {
  const found = unpacked.get(step) ?? unpack(`step-${step}`);
  unpacked.delete(step);
  unpacked.set(step, found); // now the newest
  if (unpacked.size > 4) unpacked.delete(unpacked.keys().next().value);
  return found;
}

// Steps

async function goTo(step, other = state.other) {
  Object.assign(state, {step, other: other === step ? null : other});
  const [now, then] = await Promise.all([groupsOf(step), state.other === null ? [] : groupsOf(state.other)]);
  if (state.step !== step) return; // another step was chosen meanwhile
  [groups, otherGroups] = [now, then];
  drawCurves();
  drawSteps();
  offer("finish", "finish");
  offer("status", "status");
  $("other").value = state.other ?? "";
  drawProblems();
}

// Fills a filter with the values that occur in the steps on screen.
function offer(id, key) {
  const values = new Set([...groups, ...otherGroups].flatMap((group) => group.answers.map((answer) => answer[key])));
  $(id).replaceChildren(h("option", {value: ""}, "all"), ...[...values].sort().map((value) => h("option", {value}, value.replaceAll("_", " "))));
  if (!values.has(state[id])) state[id] = "";
  $(id).value = state[id];
}

// Title, curves (name in the metrics, name on the page, look), how values are written, and the unit of the axis.
const share = (value) => `${Number((100 * value).toFixed(1))}%`;
const length = (value) => format(value, value < 100 ? 1 : 0);
const PANELS = [
  ["Reward", [["reward", "mean", "plain"]], (value) => format(value), {}],
  ["Accuracy", [["accuracy", "rollouts", "plain"], ["dev_accuracy", "held out", "accent"]], share, {scale: 100, unit: "%"}],
  ["Length", [["length", "mean", "plain"], ["length_correct", "right", "right"], ["length_wrong", "wrong", "wrong"]], length, {}],
  ["Share cut off", [["clipped_share", "clipped", "plain"]], share, {scale: 100, unit: "%"}],
  ["Entropy", [["entropy", "mean, nats", "plain"]], (value) => format(value, 3), {}],
];

function drawCurves() {
  const curves = overview.curves;
  if (!curves.step.length) return;
  $("curves").replaceChildren(...PANELS.flatMap(([title, series, text, axis]) => {
    const known = series.filter(([name]) => curves[name]?.some((value) => value !== null)).map(([name, label, look]) => (
      {name: label, look, values: curves[name], sparse: name === "dev_accuracy"}));
    return known.length ? [lineChart({
      title, text, ...axis, steps: curves.step, series: known, current: state.step, other: state.other,
      inPage: overview.steps.map((one) => one.step), pick: (step) => goTo(step)})] : [];
  }));
}

function drawSteps() {
  $("steps").replaceChildren(...overview.steps.map((one) => h("button", {
    type: "button", "aria-current": one.step === state.step ? "step" : null, class: one.step === state.other ? "other" : null,
    onclick: () => goTo(one.step)},
    h("b", null, `Step ${one.step}`),
    h("span", null, `${percent(one.figures.accuracy)} right`),
    h("span", null, `${format(one.figures.length, 0)} tokens`),
    one.figures.sample_s !== null && h("span", {class: "muted"}, `sampled in ${seconds(one.figures.sample_s)}`),
    h("span", {class: "muted"}, one.kept < one.problems ? `${one.kept} of ${one.problems} problems` : `${one.problems} problems`))));
  $("steps").querySelector("[aria-current]")?.scrollIntoView({block: "nearest", inline: "nearest"});
}

// Problems

const inOther = (group) => otherGroups.find((one) => one.problem === group.problem);

function drawProblems() {
  const known = state.other === null ? groups : groups.filter(inOther);
  const passing = known.filter((group) => group.answers.some((answer) => passes(answer, state)));
  const key = (group) => figuresOf(group.answers)[state.order];
  listed = state.order === "batch" ? passing : largestFirst(passing, key);
  if (!listed.some((group) => group.problem === state.problem)) state.problem = listed[0]?.problem ?? null;
  const count = `${listed.length} of ${groups.length} problems`;
  const why = state.other === null ? "" : ` (${known.length} are in step ${state.other} too)`;
  $("problems").replaceChildren(h("p", {class: "muted", role: "status"}, count + why), ...listed.map(problemButton));
  if (state.other !== null && !known.length) {
    $("problems").append(h("p", {class: "muted"}, `No problem of step ${state.step} is among those of step ${state.other} in this page.`));
  }
  drawGroup();
}

function problemButton(group) {
  const figures = figuresOf(group.answers);
  return h("button", {type: "button", "data-problem": group.problem, onclick: () => chooseProblem(group.problem)},
    h("span", {class: "prompt"}, group.prompt.slice(0, 160)),
    h("span", {class: "dots", role: "img", "aria-label": `${figures.right} of ${group.answers.length} right`},
      group.answers.map((answer) => h("span", {class: `${answer.right ? "right" : "wrong"}${passes(answer, state) ? "" : " dim"}`}, answer.right ? "●" : "◆"))),
    h("span", {class: "muted"}, `${format(figures.tokens, 0)} tokens, reward ${format(figures.reward)}`));
}

function chooseProblem(problem) {
  Object.assign(state, {problem, open: null});
  drawGroup();
}

function drawGroup() {
  for (const button of $("problems").querySelectorAll("button")) {
    const current = button.dataset.problem === state.problem;
    button.setAttribute("aria-current", String(current));
    if (current) keepInView(button, $("problems"));
  }
  const group = listed.find((one) => one.problem === state.problem);
  const anyValues = groups.some((one) => one.answers.some((answer) => valueOf(answer, 0, state.colour) !== null && answer.lengths));
  $("legend").replaceChildren(...legend(state.colour, anyValues, state.colour === "gap"));
  $("tip").hidden = true;
  remember();
  const places = $("group").dataset.problem === state.problem ? readingPlaces() : new Map();
  $("group").dataset.problem = state.problem ?? "";
  if (!group) {
    $("group").replaceChildren(h("p", {class: "empty"}, "No answer passes the filters."));
    return;
  }
  const both = [[state.step, group], [state.other, inOther(group)]].filter(([, one]) => one).sort(([a], [b]) => a - b);
  $("group").replaceChildren(
    h("header", {class: "problem"},
      h("h2", null, group.problem, h("span", {class: "muted"}, `${listed.indexOf(group) + 1} of ${listed.length}`)),
      h("pre", null, group.prompt),
      h("p", null, h("span", {class: "muted"}, "Reference "), h("code", null, group.reference))),
    h("div", {class: `panels${both.length > 1 ? " two" : ""}`}, both.map(([step, one]) => panel({
      step, group: one, shownAnswers: answersOf(one), curve: overview.reward, open: state.open,
      look: state, toggle: toggleAnswer}))));
  for (const card of $("group").querySelectorAll(".card")) {
    const place = places.get(card.dataset.key);
    if (place) scrollText(card.querySelector(".text"), place);
  }
}

// How far the reader has come in each answer: another colour must not lose the place.
function readingPlaces() {
  return new Map([...$("group").querySelectorAll(".card")].map((card) => [card.dataset.key, card.querySelector(".text").scrollTop]));
}

// Scrolls a list, and not the page, until one of its members can be seen.
function keepInView(member, list) {
  const inner = member.getBoundingClientRect(), outer = list.getBoundingClientRect();
  if (inner.top < outer.top) list.scrollTop += inner.top - outer.top;
  if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom;
}

function answersOf(group) {
  const passing = group.answers.filter((answer) => passes(answer, state));
  return state.answers === "sample" ? passing : largestFirst(passing, (answer) => answer[state.answers]);
}

function toggleAnswer(sample) {
  state.open = state.open === sample ? null : sample;
  drawGroup();
  $("group").querySelector(".card.open")?.scrollIntoView({block: "nearest"});
}

// The place in the run, kept in the address so that it survives a reload and can be passed on.

function remember() {
  const place = new URLSearchParams({step: state.step, problem: state.problem ?? ""});
  if (state.other !== null) place.set("compare", state.other);
  history.replaceState(null, "", `#${place}`);
}

function recall() {
  const place = new URLSearchParams(location.hash.slice(1));
  const stepIn = (name) => overview.steps.find((one) => String(one.step) === place.get(name))?.step ?? null;
  state.problem = place.get("problem");
  return goTo(stepIn("step") ?? overview.steps.at(-1).step, stepIn("compare"));
}

// Controls

function move(items, current, by) {
  const place = items.indexOf(current) + by;
  return items[Math.max(0, Math.min(items.length - 1, place))];
}

const KEYS = {
  j: () => listed.length && chooseProblem(move(listed.map((one) => one.problem), state.problem, 1)),
  k: () => listed.length && chooseProblem(move(listed.map((one) => one.problem), state.problem, -1)),
  "]": () => goTo(move(overview.steps.map((one) => one.step), state.step, 1)),
  "[": () => goTo(move(overview.steps.map((one) => one.step), state.step, -1)),
  c: () => { const options = [...$("colour").options].map((one) => one.value); setColour(options[(options.indexOf(state.colour) + 1) % options.length]); },
  r: () => $("repeats").click(),
  "/": () => $("query").focus(),
  "?": () => $("help").showModal(),
  Escape: () => state.open !== null && toggleAnswer(state.open),
};

function setColour(colour) {
  state.colour = $("colour").value = colour;
  drawGroup();
}

function onKey(event) {
  const typing = event.target.matches?.("input[type=search], select, dialog *");
  if (event.key === "Escape" && event.target === $("query")) {
    event.preventDefault(); // or the browser empties the field
    return event.target.blur();
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return undefined;
  const digit = /^[1-9]$/.test(event.key);
  if (!digit && !KEYS[event.key]) return undefined;
  event.preventDefault();
  return digit ? toggleAnswer(Number(event.key) - 1) : KEYS[event.key]();
}

function listen() {
  for (const id of SELECTS) {
    $(id).addEventListener("change", () => {
      state[id] = $(id).value;
      if (id === "colour" || id === "answers") drawGroup();
      else drawProblems();
    });
  }
  let pause;
  $("query").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => { state.query = $("query").value; drawProblems(); }, 200);
  });
  $("repeats").addEventListener("change", () => { state.repeats = $("repeats").checked; drawGroup(); });
  $("other").addEventListener("change", () => goTo(state.step, $("other").value ? Number($("other").value) : null));
  $("other").append(...overview.steps.map((one) => h("option", {value: one.step}, `step ${one.step}`)));
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  $("help-button").addEventListener("click", () => $("help").showModal());
  document.addEventListener("keydown", onKey);
  watchTokens($("group"), $("tip"));
}

// What the page does not carry, said at its top.
function notices() {
  const {steps, recorded, measured} = overview;
  const short = steps.filter((one) => one.kept < one.problems);
  const lines = [
    steps.length < recorded && `The texts of ${steps.length} of ${recorded} recorded steps are here; choose others with --steps or --max_steps.`,
    short.length && `Of ${short.length === steps.length ? "these steps" : `step ${short.map((one) => one.step).join(", ")}`}, `
      + `${short.reduce((sum, one) => sum + one.kept, 0)} of ${short.reduce((sum, one) => sum + one.problems, 0)} problems fit; --megabytes makes room for more. All figures are of the whole steps.`,
    !measured && "There is no metrics.jsonl: the curves are made of the steps in this page.",
  ].filter(Boolean);
  return lines.length ? h("p", {class: "notice"}, lines.join(" ")) : "";
}

async function start() {
  try {
    overview = await unpack("overview");
  } catch (error) {
    $("notices").append(h("p", {class: "notice"}, `This browser cannot unpack the page (${error.message}); one of 2023 or later can.`));
    return;
  }
  const answers = overview.steps.reduce((sum, one) => sum + one.answers, 0);
  $("subtitle").textContent = `${overview.steps.length} steps, ${format(answers, 0)} answers recorded in them`;
  $("notices").append(notices());
  listen();
  await recall();
  document.documentElement.dataset.ready = "true";
}

start();
