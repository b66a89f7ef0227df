// As foreign_runtimes.py, for onnxruntime-node: JSON in, JSON out.
//     node foreign_runtime.cjs FOLDER...
const fs = require("fs");
const ort = require("onnxruntime-node");
const tensor = ({ data, shape }) => new ort.Tensor("float32", Float32Array.from(data), shape);

async function run(folder) {
  const names = JSON.parse(fs.readFileSync(`${folder}/names.json`));
  const steps = JSON.parse(fs.readFileSync(`${folder}/steps.json`));
  const session = await ort.InferenceSession.create(`${folder}/model.onnx`);
  const start = Object.fromEntries(names.states.map((own) => [own.input, tensor(own.flat)]));
  const kept = Object.fromEntries(names.outputs.map((name) => [name, []]));
  let state = start;
  for (const { reset, inputs } of steps) {
    const given = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, tensor(value)]));
    const results = await session.run({ ...given, ...(reset ? start : state) });
    for (const name of names.outputs) kept[name].push(Array.from(results[name].data));
    state = Object.fromEntries(names.states.map((own) => [own.input, results[own.output]]));
  }
  fs.writeFileSync(`${folder}/onnxruntime-node.json`, JSON.stringify(kept));
}

(async () => {
  for (const folder of process.argv.slice(2)) {
    await run(folder).catch((error) => fs.writeFileSync(`${folder}/onnxruntime-node.txt`, String(error.stack)));
  }
})();
