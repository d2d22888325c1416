// The text of an answer, token by token: coloured, repetition underlined, matches of the search marked.

const CHUNK = 1500;
const shown = new WeakMap(); // box of text -> {answer, more}: what it shows, and how it comes to show more of it

// Fills `box` with the first tokens of an answer, and with more whenever its reader nears their end.
function showText(box, answer, {colour, repeats, query}) {
  const pieces = piecesOf(answer);
  const hits = findAll(answer.text, query);
  const thoughtEnd = answer.text.lastIndexOf("</think>"); // what was cut off within its thought has no solution
  let done = 0;

  function look(piece) {
    const value = valueOf(answer, piece.token, colour);
    return [
      value === null ? "" : `l${level(Math.abs(value), CUTS[colour])}`,
      value !== null && value < 0 ? "below" : "",
      repeats && touches(answer.repeats, piece.start, piece.end) ? "repeat" : "",
      touches(hits, piece.start, piece.end) ? "hit" : "",
      thoughtEnd >= 0 && piece.start >= thoughtEnd + "</think>".length ? "solution" : "",
    ].filter(Boolean).join(" ");
  }

  // Appends the next tokens; returns whether there were any.
  function more() {
    const next = pieces.slice(done, done + CHUNK);
    box.append(...next.map((piece) => h("span", {class: look(piece), "data-token": piece.token}, answer.text.slice(piece.start, piece.end))));
    done += next.length;
    if (done === pieces.length && !box.querySelector(".last")) {
      const [name, kind] = answer.finish === "stop" ? ["end", "end last"] : ["cut off here", "end last cut"];
      box.append(h("span", {class: kind}, name));
    }
    return next.length > 0;
  }

  box.replaceChildren();
  shown.set(box, {answer, more});
  box.onscroll = () => {
    if (done < pieces.length && box.scrollTop + box.clientHeight > box.scrollHeight - 600) more();
  };
  more();
  if (hits.length) {
    while (done < pieces.length && pieces[done - 1].end <= hits[0]) more();
    requestAnimationFrame(() => {
      const hit = box.querySelector(".hit");
      if (hit) box.scrollTop = hit.offsetTop - box.clientHeight / 3;
    });
  }
}

// Scrolls a box to a place that it may not show yet.
function scrollText(box, place) {
  while (box.scrollHeight - box.clientHeight < place && shown.get(box).more());
  box.scrollTop = place;
}

// What is known of a token, in words.
function describe(answer, token) {
  const lines = [`token ${token + 1} of ${answer.tokens}`];
  const entropy = valueOf(answer, token, "entropy"), surprise = valueOf(answer, token, "surprise");
  const gap = valueOf(answer, token, "gap");
  if (surprise !== null) lines.push(`log-prob ${format(-surprise)} (p = ${percent(Math.exp(-surprise))})`);
  if (entropy !== null) lines.push(`entropy ${format(entropy)} nats`);
  if (gap !== null) lines.push(`trainer minus sampler ${gap.toExponential(1).replaceAll("-", "−")}`);
  return lines;
}

// Shows the tooltip beside the token under the pointer.
function watchTokens(area, tip) {
  area.addEventListener("pointerover", (event) => {
    const answer = shown.get(event.target.closest?.(".text"))?.answer;
    const token = Number(event.target.dataset?.token ?? -1);
    tip.hidden = !answer || token < 0;
    if (tip.hidden) return;
    const visible = event.target.textContent.replaceAll("\n", "⏎").replaceAll(" ", "␣");
    tip.replaceChildren(h("b", null, visible), ...describe(answer, token).map((line) => h("div", null, line)));
    const place = event.target.getClientRects()[0];
    tip.style.left = `${Math.max(8, Math.min(place.left, innerWidth - tip.offsetWidth - 8))}px`;
    const below = place.bottom + 6;
    tip.style.top = `${below + tip.offsetHeight < innerHeight ? below : place.top - tip.offsetHeight - 6}px`;
  });
  area.addEventListener("pointerleave", () => { tip.hidden = true; });
  document.addEventListener("scroll", () => { tip.hidden = true; }, true);
}

// The colours of the present colouring, with where each begins.
function legend(colour, anyValues, gaps) {
  if (colour === "none") return [];
  if (!anyValues) return [h("span", null, `This run did not record ${{entropy: "entropies", gap: "log-prob gaps", surprise: "token boundaries"}[colour]}.`)];
  const title = {entropy: "entropy, nats", surprise: "minus log-prob, nats", gap: "log-prob gap, trainer minus sampler"}[colour];
  const names = CUTS[colour].map((cut) => (colour === "gap" ? cut.toExponential(0) : String(cut)));
  return [
    h("span", {class: "muted"}, title),
    ...["0", ...names].map((name, i) => h("span", {class: `swatch l${i}`}, name)),
    gaps && h("span", {class: "swatch l5 below"}, "trainer lower"),
    h("span", {class: "repeat"}, "repeated"),
  ].filter(Boolean);
}
