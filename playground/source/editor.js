// The editor: YAML in colours that follow the page's, completion, and marks where something is wrong.

import { autocompletion } from "@codemirror/autocomplete";
import { indentWithTab } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, setDiagnostics } from "@codemirror/lint";
import { EditorView, keymap } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { basicSetup } from "codemirror";

const COLORS = HighlightStyle.define([
  { tag: tags.comment, color: "var(--comment)" },
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--name)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--text)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--number)" },
  { tag: [tags.keyword, tags.meta], color: "var(--word)" },
]);
const THEME = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "var(--page)", fontSize: "14px" },
  ".cm-content": { caretColor: "var(--ink)" },
  ".cm-scroller": { fontFamily: '"Liberation Mono", Menlo, Consolas, monospace' },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-gutters": { backgroundColor: "var(--panel)", color: "var(--soft)", borderColor: "var(--edge)" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--soft) 10%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground":
    { backgroundColor: "var(--selected)" },
  ".cm-tooltip, .cm-panels": { backgroundColor: "var(--panel)", color: "var(--ink)", border: "1px solid var(--edge)" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--selected)", color: "var(--ink)" },
  ".cm-diagnostic": { maxWidth: "60ch", whiteSpace: "pre-wrap" },
});

/** An editor within an element; `changed` is told each new text, `complete` gives completions. */
export function editor(parent, text, changed, complete) {
  return new EditorView({
    parent,
    doc: text,
    extensions: [
      basicSetup,
      // Escape, then Tab leaves the editor, as CodeMirror's guide to accessibility asks.
      keymap.of([indentWithTab]),
      yaml(),
      syntaxHighlighting(COLORS),
      lintGutter(),
      autocompletion({ override: [complete] }),
      EditorView.contentAttributes.of({ "aria-label": "Spec" }),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) changed(update.state.doc.toString());
      }),
      THEME,
    ],
  });
}

/** Another text, which Ctrl-Z takes back. */
export function replace(view, text) {
  view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
}

/** Marks what is wrong; lines and columns count from 1, columns in characters. */
export function mark(view, findings) {
  const { doc } = view.state;
  const place = (line, column) => {
    const at = doc.line(Math.min(Math.max(1, line), doc.lines));
    // A character beyond the first plane is two units of the editor's.
    return at.from + [...at.text].slice(0, column - 1).join("").length;
  };
  const marks = findings.map((each) => {
    const from = place(each.line, each.column);
    const to = place(each.end_line, each.end_column);
    const message = [`${each.code}: ${each.message}`, each.help && `help: ${each.help}`];
    return { from, to: Math.max(from, to), severity: "error", message: message.filter(Boolean).join("\n") };
  });
  view.dispatch(setDiagnostics(view.state, marks));
}
