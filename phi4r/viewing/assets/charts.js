// Elements, and the two charts: curves over steps, and answers on the reward curve. Strings always become text.

// An HTML element; "on..." properties listen, false and null ones are left out.
function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

function svg(tag, properties, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// A frame with axes: where the data goes, and the lines and numbers around it.
function frame({width, height, x, y, xTicks, yTicks, scale = 1, unit = ""}) {
  const xText = axisText(xTicks), yText = axisText(yTicks, scale, unit);
  const box = {left: 44, right: width - 10, top: 10, bottom: height - 22};
  const toX = (value) => box.left + ((value - x[0]) / (x[1] - x[0])) * (box.right - box.left);
  const toY = (value) => box.bottom - ((value - y[0]) / (y[1] - y[0])) * (box.bottom - box.top);
  const parts = [
    ...yTicks.map((value) => svg("line", {class: "grid", x1: box.left, x2: box.right, y1: toY(value), y2: toY(value)})),
    ...yTicks.map((value) => svg("text", {class: "tick", x: box.left - 7, y: toY(value) + 3.5, "text-anchor": "end"}, yText(value))),
    ...xTicks.map((value) => svg("text", {class: "tick", x: toX(value), y: box.bottom + 15, "text-anchor": "middle"}, xText(value))),
  ];
  return {box, toX, toY, parts};
}

// A range with some air around the values; from 0 on where none is negative and 0 is near.
function padded(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const pad = high > low ? 0.06 * (high - low) : 0.05 * Math.max(1, Math.abs(high));
  return [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
}

// A line through the values that are there.
function path(xs, ys, {toX, toY}) {
  const places = xs.map((x, i) => i).filter((i) => ys[i] !== null);
  return places.map((i, n) => `${n ? "L" : "M"}${toX(xs[i]).toFixed(1)} ${toY(ys[i]).toFixed(1)}`).join("");
}

// Curves over steps. `series` are {name, values, look}; a click picks the nearest of the steps that are in the page.
function lineChart({title, steps, series, text, scale, unit, current, other, inPage, pick}) {
  const width = 290, height = 150;
  const known = series.flatMap((one) => one.values.filter((value) => value !== null));
  const range = padded(known), xRange = padded(steps);
  const axes = frame({
    width, height, x: xRange, y: range, yTicks: ticks(...range, 5), scale, unit,
    xTicks: ticks(steps[0], steps.at(-1), 5).filter(Number.isInteger),
  });
  const {box, toX, toY} = axes;
  const rule = (step, look) => svg("line", {class: look, x1: toX(step), x2: toX(step), y1: box.top, y2: box.bottom});
  const pointer = rule(current, "pointer");
  const drawn = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} over steps`},
    axes.parts,
    inPage.map((step) => svg("path", {class: "in-page", d: `M${toX(step)} ${box.bottom - 5}l3.5 5h-7z`})),
    rule(current, "current"), other === null ? null : rule(other, "other"), pointer,
    series.map((one) => svg("path", {class: `line ${one.look}`, d: path(steps, one.values, axes)})),
    series.map((one) => steps.map((step, i) => one.values[i] !== null && (one.sparse || steps.length < 25)
      && svg("circle", {class: `dot ${one.look}`, cx: toX(step), cy: toY(one.values[i]), r: 2.2}))));
  const values = h("div", {class: "values"}), place = h("span", {class: "muted"});
  const show = (step) => {
    const i = steps.indexOf(step);
    place.textContent = `step ${step}`;
    pointer.setAttribute("x1", toX(step));
    pointer.setAttribute("x2", toX(step));
    values.replaceChildren(...series.map((one) => h("span", {class: `key ${one.look}`},
      one.name, " ", h("b", null, one.values[i] === null ? "–" : text(one.values[i])))));
  };
  const stepAt = (event) => {
    const bounds = drawn.getBoundingClientRect();
    const x = ((event.clientX - bounds.left) / bounds.width) * width;
    return xRange[0] + ((x - box.left) / (box.right - box.left)) * (xRange[1] - xRange[0]);
  };
  drawn.addEventListener("pointermove", (event) => show(nearest(steps, stepAt(event))));
  drawn.addEventListener("pointerleave", () => show(nearest(steps, current)));
  drawn.addEventListener("click", (event) => pick(nearest(inPage, stepAt(event))));
  show(nearest(steps, current));
  return h("figure", {class: "curve"}, h("figcaption", null, h("div", {class: "title"}, h("b", null, title), place), values), drawn);
}

// Answers on the reward curve of Figure 6: {x: tokens, y: accuracy reward, kind: "right" or "wrong", label}.
function rewardChart(curve, points, yName) {
  const width = 400, height = 210;
  const longest = Math.max(curve ? curve.lengths.at(-1) : 0, ...points.map((point) => point.x));
  const range = curve ? [-1.18, 1.18] : padded(points.map((point) => point.y));
  const axes = frame({
    width, height, x: [0, longest * 1.03 || 1], y: range, yTicks: ticks(...range, 4), xTicks: ticks(0, longest || 1, 5),
  });
  const {box, toX, toY} = axes;
  const onPage = points.filter((point) => point.y !== null).map((point) => ({...point, x: toX(point.x), y: toY(point.y)}));
  return h("figure", {class: "reward"},
    svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Answers by length and accuracy reward"},
      axes.parts,
      curve && curve.marks.map((mark) => svg("line", {class: "mark", x1: toX(mark), x2: toX(mark), y1: box.top, y2: box.bottom})),
      curve && svg("path", {class: "line right", d: path(curve.lengths, curve.right, axes)}),
      curve && svg("path", {class: "line wrong", d: path(curve.lengths, curve.wrong, axes)}),
      onPage.map(marker), cluster(onPage, 22, 8).map((group) => pointLabel(group, box))),
    h("figcaption", {class: "muted"}, `${yName} over length in tokens. `,
      curve ? "Numbers are answers; off the curves a format rule overrode the reward." : "Numbers are answers."));
}

// An answer: circles are right, diamonds wrong.
function marker({x, y, kind}) {
  return kind === "right"
    ? svg("circle", {class: "point right", cx: x, cy: y, r: 4.5})
    : svg("path", {class: "point wrong", d: `M${x} ${y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z`});
}

// The numbers of neighbouring answers, from left to right, above them.
function pointLabel({x, y, kind, labels}, box) {
  const text = labels.length > 9 ? `${labels.slice(0, 8).join(" ")} +${labels.length - 8}` : labels.join(" ");
  const half = 3.6 * text.length;
  const inside = Math.min(Math.max(x, box.left + half), box.right - half);
  return svg("text", {class: `label ${kind}`, x: inside, y: y - 9, "text-anchor": "middle"}, text);
}
