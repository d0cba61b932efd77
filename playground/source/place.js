// Where a position stands in a spec: the keys that lead there, and those beside it.
//
// A text that is being written is seldom whole YAML. So this reads indents, brackets and keys alone,
// which are right while the word at the cursor is not.

const TOKEN = new RegExp(
  [
    /(?<line>\n *)/,
    /(?<comment>(?<=^|\s)#[^\n]*)/,
    /(?<open>[{[])/,
    /(?<close>[}\]])/,
    /(?<comma>,)/,
    /(?<item>-(?= |\n|$))/,
    /(?<word>"(?:[^"\\\n]|\\.)*"?|'[^'\n]*'?|(?:[^\s{}[\],:]|:(?=\S))+)/,
    /(?<other>[^\n])/,
  ]
    .map((each) => each.source)
    .join("|"),
  "gmu",
);

/**
 * What is written at `position`: a `key` or a `value` below `path`, in which null is an item of a list.
 *
 * `entries` are the keys of the mapping that it belongs to, with their values where these are one word;
 * the key that is being written is not among them. `word` is what there is of it, from `from` on. Null
 * within a comment.
 */
export function placeOf(text, position) {
  const reader = new Reader();
  let found = null;
  for (const token of text.matchAll(TOKEN)) {
    const [begin, end] = [token.index, token.index + token[0].length];
    const kind = Object.keys(token.groups).find((name) => token.groups[name] !== undefined);
    if (found === null && position <= end) {
      if (kind === "comment" && begin < position) return null;
      const isIndent = kind === "line" && begin < position; // where the cursor's own column counts
      const isWord = kind === "word" && begin <= position;
      const from = isWord ? begin : position;
      if (isWord || isIndent || position === begin || kind === "other") {
        const column = isIndent ? position - begin - 1 : from - reader.start;
        found = { ...reader.place(column, isIndent || reader.fresh), from };
      }
    }
    const isKey = kind === "word" && /^ *:(?=\s|$)/.test(text.slice(end, end + 9));
    reader.take(kind, token[0], begin, isKey, text.slice(end, end + 1));
  }
  found ??= { ...reader.place(position - reader.start, reader.fresh), from: position };
  const { container, ...place } = found;
  const entries = (container?.entries ?? []).filter((each) => each.start !== place.from);
  return { ...place, word: text.slice(place.from, position), entries };
}

class Reader {
  start = 0; // of the line
  fresh = true; // nothing but signs of items stands before on this line
  stack = []; // mappings and lists around

  /** Where a word at a column of this line would stand. */
  place(column, fresh) {
    const around = [...this.stack];
    const top = around.at(-1);
    if (top?.flow) {
      const isKey = top.isMap && top.key === null;
      if (isKey) around.pop();
      return { kind: isKey ? "key" : "value", path: pathOf(around), container: top.isMap ? top : null };
    }
    if (!fresh) return { kind: "value", path: pathOf(around), container: top };
    leave(around, column);
    const own = around.at(-1);
    if (own?.isMap && own.indent === column)
      return { kind: "key", path: pathOf(around.slice(0, -1)), container: own };
    return { kind: "key", path: pathOf(around), container: null };
  }

  take(kind, word, begin, isKey, next) {
    const top = this.stack.at(-1);
    if (kind === "line") this.line(begin, word.length - 1, next);
    else if (kind === "open") this.stack.push(made(word === "{", this.indent ?? 0, true));
    else if (kind === "close" && top?.flow) this.stack.pop();
    else if (kind === "comma" && top?.flow) top.key = null;
    else if (kind === "item" && this.fresh) this.item(begin - this.start);
    else if (kind === "word") this.word(unquoted(word), begin, isKey);
    if (kind === "word" || kind === "open") this.fresh = false;
  }

  line(begin, indent, next) {
    this.start = begin + 1;
    this.fresh = true;
    // Brackets that stay open end where the text goes on further to the left: they are unfinished.
    const first = this.stack.find((each) => each.flow);
    if (first && indent <= first.indent && !"}]\n#".includes(next))
      this.stack.length = this.stack.indexOf(first);
    if (!this.stack.at(-1)?.flow && next !== "\n" && next !== "#") this.indent = indent;
  }

  item(column) {
    if (this.stack.at(-1)?.flow) return;
    while (this.stack.length && this.stack.at(-1).indent > column) this.stack.pop();
    const top = this.stack.at(-1);
    if (!top || top.isMap || top.indent < column) this.stack.push(made(false, column, false));
  }

  word(word, begin, isKey) {
    let top = this.stack.at(-1);
    if (isKey && !top?.flow && this.fresh) {
      const column = begin - this.start;
      leave(this.stack, column);
      top = this.stack.at(-1);
      if (!top?.isMap || top.indent < column) {
        top = made(true, column, false);
        this.stack.push(top);
      }
      top.key = null;
    }
    if (isKey && top?.isMap && top.key === null) {
      top.key = word;
      top.entries.push({ key: word, start: begin });
    } else if (top?.isMap && top.key !== null && top.entries.at(-1)?.key === top.key) {
      top.entries.at(-1).value ??= word;
    }
  }
}

function made(isMap, indent, flow) {
  return { isMap, indent, flow, key: null, entries: [] };
}

/** Leave what a word at a column does not belong to. */
function leave(stack, column) {
  const isOutside = (each) => each.indent > column || (each.indent === column && !each.isMap);
  while (stack.length && isOutside(stack.at(-1))) stack.pop();
}

function pathOf(stack) {
  return stack.map((each) => (each.isMap ? (each.key ?? "") : null));
}

function unquoted(word) {
  return /^(["']).*\1$/.test(word) ? word.slice(1, -1) : word;
}
