// Takes over what the server shows whenever that changes; place and opened texts stay as they are.
"use strict";
let shown = null;
let asked = 0;

async function renew() {
  const mine = ++asked;
  const text = await (await fetch("/")).text();
  if (mine !== asked || text === shown) return; // a later answer is on its way, or nothing is new
  shown = text;
  const next = new DOMParser().parseFromString(text, "text/html");
  const title = (details) => details.querySelector("summary b").textContent;
  const opened = new Set([...document.querySelectorAll("details[open]")].map(title));
  for (const details of next.querySelectorAll("details")) details.open = opened.has(title(details));
  const sideways = [...document.querySelectorAll(".wide")].map((each) => each.scrollLeft);
  const [x, y] = [scrollX, scrollY];
  document.title = next.title;
  document.body.replaceChildren(...next.body.children);
  [...document.querySelectorAll(".wide")].forEach((each, k) => (each.scrollLeft = sideways[k] || 0));
  scrollTo(x, y);
}

function tellLoss() {
  if (document.querySelector("#lost")) return;
  const note = document.createElement("p");
  note.id = "lost";
  note.setAttribute("role", "alert");
  note.textContent = "The preview has stopped. This page goes on when it is started again.";
  document.body.prepend(note);
}

function follow() {
  const events = new EventSource("/events");
  events.onopen = () => document.querySelector("#lost")?.remove();
  events.onmessage = () => renew().catch(tellLoss);
  events.onerror = () => {
    tellLoss();
    events.close();
    setTimeout(follow, 1000);
  };
}

follow();
