// A traceback of an agent's code: what was raised, then its author's frames; those of libraries are folded behind them.

import { h } from "./elements.js";

const FRAME = /^ *File "(.+)", line (\d+)(?:, in (.+))?$/;
const isLibrary = (file) => /[\\/](?:site|dist)-packages[\\/]|[\\/]lib(?:64)?[\\/]python\d|^</.test(file);

function parsed(text) { // errors, each with its frames: the error itself first, then what it was raised from
  const errors = [];
  for (const line of text.split("\n")) {
    const frame = line.match(FRAME);
    if (frame) {
      errors.length || errors.push({ raised: [], frames: [] });
      errors.at(-1).frames.push({ file: frame[1], line: frame[2], name: frame[3], code: [] });
    } else if (line.startsWith("    ") && errors.at(-1)?.frames.length) {
      errors.at(-1).frames.at(-1).code.push(line.slice(4));
    } else if (!errors.length || errors.at(-1).frames.length) {
      errors.push({ raised: [line], frames: [] });
    } else {
      errors.at(-1).raised.push(line);
    }
  }
  return errors;
}

function shown({ file, line, name, code }) {
  const short = file.split(/[\\/]/).slice(-2).join("/");
  return h("li", {}, h("code", { title: file }, `${short}:${line}`), name && h("span", {}, ` in ${name}`),
    code.length > 0 && h("pre", {}, code.join("\n")));
}

export function traceback(text) {
  return h("details", { class: "traceback", open: "" }, h("summary", {}, "Traceback"), parsed(text).flatMap((error) => {
    const libraries = error.frames.filter((frame) => isLibrary(frame.file));
    const own = error.frames.filter((frame) => !isLibrary(frame.file));
    return [h("p", { class: "code" }, error.raised.join("\n")), own.length > 0 && h("ol", {}, own.map(shown)),
      libraries.length > 0 && h("details", {},
        h("summary", {}, `${libraries.length} ${libraries.length === 1 ? "frame" : "frames"} of libraries`),
        h("ol", {}, libraries.map(shown)))];
  }));
}
