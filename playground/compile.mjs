// Compiles the modules of an archive by the very Python that will run them: node compile.mjs IN OUT
//
// A module stands in the new archive as bytecode, without docstrings.

import { readFileSync, writeFileSync } from "node:fs";
import { loadPyodide } from "pyodide";

const [source, target] = process.argv.slice(2);
const python = await loadPyodide();
python.FS.writeFile("/in.zip", new Uint8Array(readFileSync(source)));
python.runPython(`
import importlib.util, marshal, zipfile
from importlib._bootstrap_external import _code_to_hash_pyc

with zipfile.ZipFile("/in.zip") as given, zipfile.ZipFile("/out.zip", "w") as made:
    for name in given.namelist():
        data = given.read(name)
        if name.endswith(".py"):
            code = compile(data, name, "exec", dont_inherit=True, optimize=2)
            hash_ = importlib.util.source_hash(data)
            name, data = f"{name}c", bytes(_code_to_hash_pyc(code, hash_, False))
        made.writestr(name, data)
`);
writeFileSync(target, python.FS.readFile("/out.zip"));
