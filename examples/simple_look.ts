/** How the page of simple.ts looks, and the script in it: as the browser gets them. */

/** CSS. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f7f7f4; --card: #fff; --ink: #14181b; --soft: #59626b; --line: #e1e3df;
  --accent: #0a6b48; --on: #fff; --tint: #e1f1e9; --glow: #d4eade;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0d1012; --card: #15191c; --ink: #e9edec; --soft: #9aa5ad; --line: #272d32;
    --accent: #58d6a3; --on: #06231a; --tint: #11342a; --glow: #0f2a22;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
header, main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.5rem; }
h1, h2, p, ul, ol, dl, dd, pre { margin: 0; padding: 0; }
ul { list-style: none; }
body::before { content: ""; position: absolute; inset: 0 0 auto; height: 26rem; z-index: -1;
  background: radial-gradient(60rem 22rem at 15% -4rem, var(--glow), transparent 70%); }
header { padding-top: 4rem; padding-bottom: 1rem; }
.brand { font-weight: 650; }
.brand::before { content: ""; display: inline-block; width: 0.7rem; height: 0.7rem; margin-right: 0.55rem;
  border-radius: 50%; background: var(--accent); }
.brand span, .soft { color: var(--soft); font-weight: 400; }
h1 { margin: 1.1rem 0 0.75rem; font-size: clamp(2.4rem, 7vw, 4rem); font-weight: 700; line-height: 1.04;
  letter-spacing: -0.045em; }
.lead { max-width: 38rem; color: var(--soft); font-size: 1.15rem; }
.facts { display: grid; grid-template-columns: repeat(4, 1fr); margin-top: 2.25rem;
  border-top: 1px solid var(--line); }
.facts li { padding: 1rem 1rem 0.5rem 0; }
.facts strong { display: block; font-size: 1.55rem; font-weight: 650; letter-spacing: -0.03em; line-height: 1.2; }
.facts span { color: var(--soft); font-size: 0.9rem; }
section { margin-top: 1.25rem; padding: 1.6rem 1.75rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 1rem; }
h2 { font-size: 1.15rem; font-weight: 650; letter-spacing: -0.015em; }
.about { max-width: 44rem; margin-top: 0.3rem; color: var(--soft); font-size: 0.95rem; }
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 0 1.25rem; }
.pair > section { margin-bottom: 0; }
.stack { display: flex; flex-direction: column; }
.stack section:last-child { flex: 1; }
.ja4 { margin: 1.3rem 0 1.1rem; font: 600 clamp(1.02rem, 3.1vw, 1.95rem)/1.3 var(--mono);
  letter-spacing: -0.03em; overflow-wrap: anywhere; }
.ja4 i { color: var(--soft); font-style: normal; }
.ja4 span:first-child { color: var(--accent); }
.legend { list-style: none; display: grid; gap: 0.25rem 1.25rem; font-size: 0.95rem; color: var(--soft); }
.legend li { display: grid; grid-template-columns: 8rem minmax(0, 1fr); align-items: baseline; }
.legend code { color: var(--ink); }
code, pre, dd, #events { font-family: var(--mono); font-size: 0.875rem; }
dl { margin-top: 0.8rem; }
dl div { display: grid; grid-template-columns: 9.5rem minmax(0, 1fr); gap: 1rem; padding: 0.5rem 0;
  border-top: 1px solid var(--line); }
dl div:first-child { border-top: 0; }
dt { color: var(--soft); font-size: 0.95rem; }
dd { overflow-wrap: anywhere; padding-top: 0.1rem; }
.chip, mark { display: inline-block; margin: 0 0.15rem 0.3rem 0; padding: 0.05rem 0.5rem; font-size: 0.8125rem;
  border: 1px solid var(--line); border-radius: 0.4rem; background: none; color: inherit; }
mark { border-color: var(--accent); background: var(--tint); color: var(--accent); font-weight: 600; }
summary { cursor: pointer; color: var(--accent); font: 0.875rem/1.8 system-ui, sans-serif; }
form { margin-top: 1.1rem; display: grid; gap: 0.8rem; }
label { display: block; margin-bottom: 0.2rem; font-size: 0.9rem; color: var(--soft); }
input { width: 100%; padding: 0.55rem 0.75rem; border: 1px solid var(--soft); border-radius: 0.5rem;
  background: var(--page); color: var(--ink); font: inherit; }
input[readonly] { font-family: var(--mono); border-style: dashed; }
button { padding: 0.55rem 1.1rem; border: 1px solid var(--soft); border-radius: 0.55rem; background: none;
  color: var(--ink); font: 600 0.95rem/1.4 system-ui, sans-serif; cursor: pointer; }
button:hover { border-color: var(--accent); color: var(--accent); }
button.main { background: var(--accent); border-color: var(--accent); color: var(--on); }
button.main:hover { color: var(--on); filter: brightness(1.08); }
.steps { margin: 1.1rem 0 0.6rem; padding-left: 1.2rem; color: var(--soft); font-size: 0.9rem; }
.steps li { margin-bottom: 0.25rem; }
pre { overflow-x: auto; padding: 0.7rem 0.9rem; border-radius: 0.5rem; background: var(--page); line-height: 1.6; }
#live ~ p { margin-top: 0.3rem; } #ping { margin-top: 0.7rem; margin-right: 0.7rem; }
#events { list-style: none; margin-top: 1rem; height: 20rem; overflow: auto; border-top: 1px solid var(--line); }
#events li { display: grid; grid-template-columns: 6.5rem minmax(0, 1fr); gap: 0 1rem; padding: 0.4rem 0;
  border-bottom: 1px solid var(--line); }
#events span { grid-column: 2; }
#events time { color: var(--soft); } #events strong { color: var(--accent); font-weight: 600; }
footer { padding-top: 2.25rem; padding-bottom: 4rem; color: var(--soft); }
footer h2 { color: var(--ink); margin-bottom: 0.5rem; }
footer ul { display: grid; grid-template-columns: 1fr 1fr; gap: 0.35rem 2rem; }
a { color: var(--accent); text-underline-offset: 0.2em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 0.3rem; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
@media (max-width: 50rem) {
  header, main, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 2.25rem; }
  .pair, footer ul { grid-template-columns: minmax(0, 1fr); }
  .facts { grid-template-columns: 1fr 1fr; }
  section { padding: 1.25rem 1.1rem; }
  dl div { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .legend li { grid-template-columns: minmax(0, 1fr); }
}
`;

/** JavaScript: local times, and the events of the connection. Without it the page shows the same facts. */
export const SCRIPT = String.raw`
"use strict";
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
for (const time of document.querySelectorAll("time")) time.textContent = local.format(new Date(time.dateTime));
const events = document.getElementById("events");
const state = document.getElementById("state");
const element = (name, text) => Object.assign(document.createElement(name), { textContent: text });
const stream = new EventSource("/events");
stream.addEventListener("open", () => { state.textContent = "listening"; });
stream.addEventListener("error", () => { state.textContent = "connection lost, trying again"; });
stream.addEventListener("message", ({ data }) => {
  const { name, at, about } = JSON.parse(data);
  const item = document.createElement("li");
  item.append(element("time", clock.format(at)), element("strong", name), element("span", about));
  events.prepend(item);
  while (events.children.length > 100) events.lastChild.remove();
});
document.getElementById("ping").addEventListener("click", () => { fetch("/ping").catch(() => {}); });
`;
