// Takes over what the server shows whenever that changes.

let shown = null;
let asked = 0;

async function renew() {
  const mine = ++asked;
  const text = await (await fetch("/")).text();
  if (mine !== asked || text === shown) return; // a later answer is on its way, or nothing is new
  shown = text;
  takeOver(document, text);
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
