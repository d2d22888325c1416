// One step's answers to one problem: the facts of the group, and the answers side by side.

const STATUS = {ok: "", no_answer: "no answer", timeout: "judging timed out", error: "judging failed"};

// A step's half of the view; `look` is how texts are shown, `shownAnswers` those that pass the filters, in order.
function panel({step, group, shownAnswers, curve, look, open, toggle}) {
  const figures = figuresOf(group.answers);
  const hidden = group.answers.length - shownAnswers.length;
  const parts = Object.keys(group.answers[0].parts);
  const yPart = parts.includes("accuracy") ? "accuracy" : null;
  const dropped = group.answers.every((answer) => answer.advantage === null);
  const points = group.answers.map((answer) => ({
    x: answer.tokens, y: yPart ? answer.parts.accuracy : answer.reward,
    kind: answer.right ? "right" : "wrong", label: answer.sample + 1}));
  return h("div", {class: "panel"},
    h("h3", null, `Step ${step}`, h("span", {class: "muted"},
      `${figures.right} of ${group.answers.length} right, mean reward ${format(figures.reward)}, `
      + `${format(figures.tokens, 0)} tokens${hidden ? `; ${hidden} hidden by the filter` : ""}`
      + `${dropped ? "; dropped for its equal rewards, not trained on" : ""}`)),
    h("div", {class: "facts"},
      rewardChart(yPart ? curve : null, points, yPart ? "Accuracy reward" : "Reward"),
      table(group.answers, parts, shownAnswers, toggle)),
    h("div", {class: "cards"}, shownAnswers.map((answer) => card(answer, step, look, open === answer.sample, toggle))));
}

// Every answer as a row of numbers; those that the filters hide are dimmed.
function table(answers, parts, shownAnswers, toggle) {
  const largest = Math.max(1e-9, ...answers.map((answer) => Math.abs(answer.advantage ?? 0)));
  const head = ["", "verdict", "answer", "tokens", ...parts.map((part) => part.replaceAll("_", " ")), "reward", "advantage", "entropy"];
  return h("div", {class: "wide", tabindex: 0, role: "region", "aria-label": "Numbers of the group"}, h("table", null,
    h("thead", null, h("tr", null, head.map((name) => h("th", {scope: "col"}, name)))),
    h("tbody", null, answers.map((answer) => h("tr", {class: shownAnswers.includes(answer) ? "" : "dim"},
      h("th", {scope: "row"}, h("button", {type: "button", class: "plain", title: "widen", onclick: () => toggle(answer.sample)}, String(answer.sample + 1))),
      h("td", {class: "verdict"}, verdict(answer)),
      h("td", {class: "answer", title: answer.answer ?? ""}, answer.answer ?? "–"),
      h("td", null, format(answer.tokens, 0)),
      parts.map((part) => h("td", null, format(answer.parts[part]))),
      h("td", null, h("b", null, format(answer.reward))),
      h("td", null, advantageBar(answer.advantage, largest)),
      h("td", null, format(answer.entropy)))))));
}

function verdict(answer) {
  const notes = [answer.finish === "stop" ? "" : "cut off", STATUS[answer.status] ?? answer.status].filter(Boolean);
  return [h("span", {class: answer.right ? "right" : "wrong"}, answer.right ? "● right" : "◆ wrong"),
    notes.length ? h("span", {class: "muted"}, ` ${notes.join(", ")}`) : null];
}

// The advantage as a number, and as a bar to the right or left of the middle.
function advantageBar(advantage, largest) {
  const width = 22 * Math.abs(advantage ?? 0) / largest;
  return [svg("svg", {class: "bar", viewBox: "0 0 44 10", width: 44, height: 10, "aria-hidden": "true"},
    svg("rect", {class: advantage < 0 ? "wrong" : "right", x: advantage < 0 ? 22 - width : 22, y: 1, width, height: 8}),
    svg("line", {class: "axis", x1: 22, x2: 22, y1: 0, y2: 10})), ` ${signed(advantage)}`];
}

function signed(value) {
  return value > 0 ? `+${format(value)}` : format(value);
}

// An answer to read. Its text is filled in by `showText`.
function card(answer, step, look, open, toggle) {
  const text = h("div", {class: "text", tabindex: 0, role: "region", "aria-label": `Answer ${answer.sample + 1} of step ${step}`});
  const element = h("article", {class: `card ${answer.right ? "right" : "wrong"}${open ? " open" : ""}`, "data-key": `${step} ${answer.sample} ${open}`},
    h("header", null,
      h("button", {type: "button", class: "plain", "aria-expanded": String(open), onclick: () => toggle(answer.sample)},
        h("b", null, String(answer.sample + 1)), h("span", {"aria-hidden": "true"}, open ? "−" : "+")),
      verdict(answer),
      answer.answer !== null && h("code", null, answer.answer.length > 40 ? `${answer.answer.slice(0, 40)}…` : answer.answer),
      h("span", {class: "numbers muted"},
        `${format(answer.tokens, 0)} tokens, reward ${format(answer.reward)}, advantage ${signed(answer.advantage)}`)),
    text);
  showText(text, answer, look);
  return element;
}
