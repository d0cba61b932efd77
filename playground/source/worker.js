// Runs the package itself: a spec in, its page, its sources and what is wrong with it out.

import { loadPyodide } from "./pyodide/pyodide.mjs";

async function started() {
  const archive = fetch("packages.zip").then((answer) => answer.arrayBuffer());
  const python = await loadPyodide({ indexURL: new URL("pyodide/", self.location).href });
  python.unpackArchive(await archive, "zip", { extractDir: "/packages" });
  return python.runPython('import sys; sys.path.insert(0, "/packages"); import session; session.answer');
}

const answer = started();

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ number: data.number, ...JSON.parse((await answer)(data.text)) });
  } catch (error) {
    self.postMessage({ number: data.number, failure: String(error) });
  }
};
