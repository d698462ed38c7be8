// A value as lines of YAML, which people read and compare more easily than JSON. The server reads them back.

const PLAIN = /^[A-Za-z_][\w ,;()/+.-]*$/; // what needs no quotes
const WORDS = /^(true|false|null|yes|no|on|off|y|n|~)$/i;

const text = (value) => (PLAIN.test(value) && !WORDS.test(value) && value.trim() === value ? value : JSON.stringify(value));
const scalar = (value) => (typeof value === "string" ? text(value) : JSON.stringify(value));
const inner = (lines) => lines.map((line) => (line ? `  ${line}` : line));
const isEmpty = (value) => value === null || typeof value !== "object" || !Object.keys(value).length;
// A block of text begins with no space and ends with one line break at most, or it is quoted.
const isBlock = (value) => typeof value === "string" && /\n./.test(value) && !/^\s|\n\n$|[ \t]\n|[^\n\x20-\uffff]/.test(value);

export function written(value) {
  if (isEmpty(value)) return [scalar(value)];
  if (Array.isArray(value)) {
    return value.flatMap((one) => {
      if (isEmpty(one)) return [`- ${scalar(one)}`];
      const [first, ...rest] = written(one);
      return [`- ${first}`, ...inner(rest)];
    });
  }
  return Object.entries(value).flatMap(([name, one]) => {
    const key = text(name);
    if (isBlock(one)) return [`${key}: |${one.endsWith("\n") ? "" : "-"}`, ...inner(one.replace(/\n$/, "").split("\n"))];
    if (isEmpty(one)) return [`${key}: ${scalar(one)}`];
    return [`${key}:`, ...inner(written(one))];
  });
}

const MOST = 4_000_000; // pairs of lines that are compared

// The lines of two texts side by side: [mark, line], the mark " ", "-" or "+".
export function compared(before, after) {
  let top = 0, end = 0;
  while (top < before.length && top < after.length && before[top] === after[top]) top++;
  while (end < before.length - top && end < after.length - top && before.at(-1 - end) === after.at(-1 - end)) end++;
  const one = before.slice(top, before.length - end), other = after.slice(top, after.length - end);
  return [...before.slice(0, top).map((line) => [" ", line]), ...changed(one, other),
    ...before.slice(before.length - end).map((line) => [" ", line])];
}

function changed(one, other) { // by the longest lines they share
  if (one.length * other.length > MOST) return [...one.map((line) => ["-", line]), ...other.map((line) => ["+", line])];
  const shared = Array.from({ length: one.length + 1 }, () => new Uint32Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      shared[i][j] = one[i] === other[j] ? shared[i + 1][j + 1] + 1 : Math.max(shared[i + 1][j], shared[i][j + 1]);
    }
  }
  const lines = [];
  let i = 0, j = 0;
  while (i < one.length || j < other.length) {
    if (i < one.length && j < other.length && one[i] === other[j]) { lines.push([" ", one[i++]]); j++; }
    else if (i < one.length && (j === other.length || shared[i + 1][j] >= shared[i][j + 1])) lines.push(["-", one[i++]]);
    else lines.push(["+", other[j++]]);
  }
  return lines;
}
