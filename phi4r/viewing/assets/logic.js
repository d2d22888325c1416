// Pure functions of the page: no document, no state.

// Where one colour of a token ends and the next begins: nats of entropy, nats of surprise, size of the log-prob gap.
const CUTS = {
  entropy: [0.05, 0.2, 0.5, 1, 1.5, 2, 3],
  surprise: [0.1, 0.35, 0.7, 1.4, 2.3, 4, 6],
  gap: [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1],
};

// How many of the rising cuts a value has reached.
function level(value, cuts) {
  let reached = 0;
  while (reached < cuts.length && value >= cuts[reached]) reached++;
  return reached;
}

// Whether start..end overlaps one of the rising ranges, given flat: start, end, start, end, ...
function touches(ranges, start, end) {
  let low = 0, high = ranges.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[2 * middle + 1] <= start) low = middle + 1;
    else high = middle;
  }
  return 2 * low < ranges.length && ranges[2 * low] < end;
}

// Flat ranges of a text in another, upper and lower case alike.
function findAll(text, query) {
  if (!query) return [];
  const literal = query.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
  return [...text.matchAll(new RegExp(literal, "gi"))].flatMap((match) => [match.index, match.index + match[0].length]);
}

// The pieces of an answer as {start, end, token}: its tokens, or words with token -1 where tokens are not recorded.
function piecesOf(answer) {
  if (!answer.lengths) {
    return [...answer.text.matchAll(/\s*\S+|\s+/g)].map((match) => (
      {start: match.index, end: match.index + match[0].length, token: -1}));
  }
  const pieces = [];
  let start = 0;
  answer.lengths.forEach((length, token) => {
    if (length) pieces.push({start, end: start + length, token});
    start += length;
  });
  return pieces;
}

// What a token has of a colouring, or null.
function valueOf(answer, token, colour) {
  if (token < 0) return null;
  if (colour === "entropy") return answer.entropies ? answer.entropies[token] / 100 : null;
  if (colour === "surprise") return answer.surprises ? answer.surprises[token] / 100 : null;
  if (colour === "gap") return answer.gaps ? answer.gaps[token] : null;
  return null;
}

// Whether an answer passes the filters; an empty one lets everything pass.
function passes(answer, filters) {
  return (!filters.verdict || answer.right === (filters.verdict === "right"))
    && (!filters.finish || answer.finish === filters.finish)
    && (!filters.status || answer.status === filters.status)
    && (!filters.query || findAll(answer.text, filters.query).length > 0);
}

function meanOf(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

// What a group of answers is ordered by and summed up with.
function figuresOf(answers) {
  const rewards = answers.map((answer) => answer.reward);
  const mean = meanOf(rewards);
  return {
    right: answers.filter((answer) => answer.right).length,
    accuracy: meanOf(answers.map((answer) => Number(answer.right))),
    reward: mean,
    spread: mean === null ? null : Math.sqrt(meanOf(rewards.map((x) => (x === null ? null : (x - mean) ** 2)))),
    tokens: meanOf(answers.map((answer) => answer.tokens)),
    entropy: meanOf(answers.map((answer) => answer.entropy)),
  };
}

// A sorted copy: by a number, the largest first, unknown ones last; equal ones keep their order.
function largestFirst(items, key) {
  const rank = (item) => key(item) ?? -Infinity;
  return [...items].sort((a, b) => (rank(a) === rank(b) ? 0 : rank(b) > rank(a) ? 1 : -1));
}

// About `count` round numbers within low..high.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

// The member of a list of numbers nearest to x.
function nearest(values, x) {
  return values.reduce((best, value) => (Math.abs(value - x) < Math.abs(best - x) ? value : best));
}

// Joins points {x, y, kind, label} of one kind whose neighbours are less than dx and dy away, from left to right.
function cluster(points, dx, dy) {
  const clusters = [];
  for (const point of [...points].sort((a, b) => a.x - b.x)) {
    const near = clusters.find((one) => one.kind === point.kind && point.x - one.last < dx && Math.abs(point.y - one.y) < dy);
    if (near) {
      near.last = point.x;
      near.labels.push(point.label);
    } else clusters.push({first: point.x, last: point.x, y: point.y, kind: point.kind, labels: [point.label]});
  }
  return clusters.map(({first, last, y, kind, labels}) => ({x: (first + last) / 2, y, kind, labels}));
}

// Numbers as people read them: 0.62, 11,402, 3.2e-6; a dash for null.
function format(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits) return value.toExponential(1);
  const text = value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
  return text.replace("-", "−");
}

// What the numbers of an axis are written as: with the decimals that tell neighbours apart, in units of 1/scale.
function axisText(values, scale = 1, unit = "") {
  const step = values.length > 1 ? (values[1] - values[0]) * scale : 1;
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  return (value) => format(value * scale, value === 0 ? 0 : digits) + unit;
}

function seconds(value) {
  return `${format(value, value < 10 ? 1 : 0)} s`;
}

function percent(share) {
  return share === null || share === undefined ? "–" : `${format(100 * share, 0)}%`;
}
