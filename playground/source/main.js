// The page: a text in the editor, what the package makes of it beside it, and both in the address.

import { takeOver } from "../../resnet_spec/preview/take_over.js";
import { completionsOf } from "./completion.js";
import { editor, mark, replace } from "./editor.js";
import { decoded, encoded } from "./share.js";

const FIRST = "resnet50";
const PAUSE = 150; // milliseconds without a key before a text is looked at
const element = (id) => document.getElementById(id);

// --- the package ---------------------------------------------------------------------------------

const worker = new Worker("worker.js", { type: "module" });
let number = 0; // of the last text that was asked about
let isBusy = false;
let waiting = null; // the newest text, while an older one is looked at

function ask(text) {
  waiting = text;
  element("status").textContent = number ? "Working…" : "Loading Python…";
  if (isBusy) return;
  isBusy = true;
  worker.postMessage({ number: ++number, text: waiting });
  waiting = null;
}

worker.onmessage = ({ data }) => {
  isBusy = false;
  if (waiting !== null) ask(waiting);
  else show(data);
};
worker.onerror = (event) => tell(`Python could not be loaded: ${event.message ?? ""}`, true);

// --- what comes out ------------------------------------------------------------------------------

function tell(text, isWrong) {
  element("status").textContent = text;
  element("status").classList.toggle("wrong", isWrong);
}

function show(found) {
  if (found.failure) return tell(found.failure, true);
  mark(view, found.findings);
  const count = found.count;
  tell(count === 0 ? "No mistakes" : count === 1 ? "1 mistake" : `${count} mistakes`, count > 0);
  showPage(found.page);
  offer(found.files);
}

let newest = null; // the page that is to be seen
let isLoaded = false;

/** The first page is loaded; of those after it the body alone, so that nothing flickers or moves. */
function showPage(page) {
  const frame = element("report");
  const isFirst = newest === null;
  newest = page;
  if (isFirst) {
    const done = () => {
      isLoaded = true;
      if (newest !== page) takeOver(frame.contentDocument, newest);
      lead(frame.contentDocument);
    };
    frame.addEventListener("load", done, { once: true });
    frame.srcdoc = page;
  } else if (isLoaded) {
    takeOver(frame.contentDocument, page);
    lead(frame.contentDocument);
  }
}

/** Let links open beside this page, not within it. */
function lead(page) {
  for (const link of page.querySelectorAll("a[href^=http]")) link.target = "_blank";
}

function offer(files) {
  const buttons = Object.entries(files).map(([path, text]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = path.includes("/") ? path.split("/")[0] : path.split(".").at(-1);
    button.title = `Download ${path}`;
    button.addEventListener("click", () => download(path.split("/").at(-1), text));
    return button;
  });
  element("downloads").replaceChildren(...buttons);
}

function download(name, text) {
  const link = document.createElement("a");
  link.download = name;
  link.href = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// --- the address ---------------------------------------------------------------------------------

/** The text that an address stands for: the name of a start, or a whole text behind `spec=`. */
async function textOf(hash) {
  const word = decodeURIComponent(hash.slice(1));
  if (!word.startsWith("spec=")) return starts.get(word)?.text ?? null;
  try {
    return await decoded(word.slice("spec=".length));
  } catch {
    tell("The address holds no spec", true);
    return null;
  }
}

async function addressOf(text) {
  for (const start of starts.values()) if (start.text === text) return `#${start.name}`;
  return `#spec=${await encoded(text)}`;
}

let pause = 0;

function changed(text) {
  clearTimeout(pause);
  pause = setTimeout(async () => {
    ask(text);
    const address = await addressOf(text);
    history.replaceState(null, "", address);
    select.value = address.startsWith("#spec=") ? "" : address.slice(1);
  }, PAUSE);
}

element("share").addEventListener("click", async () => {
  history.replaceState(null, "", await addressOf(view.state.doc.toString()));
  try {
    await navigator.clipboard.writeText(location.href);
    tell("Link copied", false);
  } catch {
    tell("The link is in the address bar", false);
  }
});

// --- the beginning -------------------------------------------------------------------------------

const data = await (await fetch("data.json")).json();
const starts = new Map(data.starts.map((each) => [each.name, each]));
const select = element("start");
const groups = Map.groupBy(data.starts, (each) => each.family || "examples");
select.append(new Option("your own", ""));
for (const [family, members] of groups) {
  const group = document.createElement("optgroup");
  group.label = family;
  for (const each of members) group.append(new Option(each.name, each.name));
  select.append(group);
}
select.addEventListener("change", () => {
  const start = starts.get(select.value);
  if (start) replace(view, start.text);
});

const first = (await textOf(location.hash)) ?? starts.get(FIRST).text;
const view = editor(element("editor"), first, changed, completionsOf(data));
addEventListener("hashchange", async () => {
  const text = await textOf(location.hash);
  if (text !== null && text !== view.state.doc.toString()) replace(view, text);
});
changed(first);
if ("serviceWorker" in navigator) navigator.serviceWorker.register("service.js").catch(() => {});
