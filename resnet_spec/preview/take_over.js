export function takeOver(document, text) {
  // Puts the body of another page in place of this one's; place and opened texts stay as they are.
  const next = new DOMParser().parseFromString(text, "text/html");
  const title = (details) => details.querySelector("summary b").textContent;
  const opened = new Set([...document.querySelectorAll("details[open]")].map(title));
  for (const details of next.querySelectorAll("details")) details.open = opened.has(title(details));
  const sideways = [...document.querySelectorAll(".wide")].map((each) => each.scrollLeft);
  const { scrollX, scrollY } = document.defaultView;
  document.title = next.title;
  document.body.replaceChildren(...next.body.children);
  const wide = [...document.querySelectorAll(".wide")];
  wide.forEach((each, place) => (each.scrollLeft = sideways[place] || 0));
  document.defaultView.scrollTo(scrollX, scrollY);
}
