// MicroPython as WebAssembly: copies the guardian into its file system, then answers requests line by line.
//   node run.mjs MODULES_FOLDER GUARDIAN_FOLDER DRIVER
import { readFileSync, readdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [modules, guardian, driver] = process.argv.slice(2);
const place = `${modules}/@micropython/micropython-webassembly-pyscript/micropython.mjs`;
const { loadMicroPython } = await import(pathToFileURL(place).href);
const mp = await loadMicroPython({ stdout: (line) => process.stdout.write(line + "\n"), linebuffer: true });

mp.FS.mkdir("/guardian");
for (const name of readdirSync(guardian)) {
  if (name.endsWith(".py") || name.endsWith(".json")) {
    mp.FS.writeFile(`/guardian/${name}`, readFileSync(`${guardian}/${name}`));
  }
}
mp.FS.writeFile("/driver.py", readFileSync(driver));
mp.runPython("import sys\nsys.path.append('/')\nimport driver");
for await (const line of createInterface({ input: process.stdin })) {
  mp.runPython(`print(driver.answer(${JSON.stringify(line)}))`);
}
