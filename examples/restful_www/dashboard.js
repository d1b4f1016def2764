/** The dashboard's two readings and its one control. */
const show = (id, text) => document.getElementById(id).textContent = text;
const read = async (path) => await (await fetch(`/api/v1/${path}`)).json();

const { chip, idf_version, cores } = await read("system/info");
show("info", `${idf_version}, ${cores} cores, ${chip}`);

const readTemperature = async () => show("temperature", `${(await read("temp/raw")).raw} °C`);
setInterval(readTemperature, 1000);

document.getElementById("light").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const body = JSON.stringify(Object.fromEntries([...form].map(([k, v]) => [k, Number(v)])));
  const headers = { "content-type": "application/json" };
  const options = { method: "POST", headers, body };
  show("result", await (await fetch("/api/v1/light/brightness", options)).text());
});
