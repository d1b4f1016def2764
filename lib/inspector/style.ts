/**
 * The style of the page. Light and dark follow the system; on a phone each row of a table is a card.
 *
 * @module
 */

/** CSS, as it stands in the page. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f5f6f4; --card: #fff; --ink: #15191c; --soft: #56606a; --line: #dde1e0;
  --accent: #0a6b48; --tint: #e2f1ea; --info: #2f6299; --warn: #8a5200; --bad: #b3231b;
  --bad-tint: #fbe9e7; --shadow: 0 1px 2px rgb(20 30 30 / 6%), 0 4px 16px rgb(20 30 30 / 4%);
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1113; --card: #161a1d; --ink: #e9edec; --soft: #9ba6ae; --line: #293036;
    --accent: #56d3a0; --tint: #12352a; --info: #86b7ec; --warn: #f2b75c; --bad: #ff9188;
    --bad-tint: #3b1a18; --shadow: none;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 0 1.5rem 3rem; max-width: 84rem;
  background: var(--page); color: var(--ink);
  font: 0.9375rem/1.5 system-ui, -apple-system, "Segoe UI", sans-serif;
}
h1, h2, h3, p, dl, dd, figure { margin: 0; }
h1 { font-size: 1.5rem; font-weight: 650; letter-spacing: -0.02em; line-height: 1.2; }
h1::before {
  content: ""; display: inline-block; width: 0.6rem; height: 0.6rem; margin-right: 0.6rem;
  border-radius: 50%; background: var(--accent); vertical-align: 0.1em;
}
h2 { margin: 2.25rem 0 0.75rem; font-size: 1.0625rem; font-weight: 650; letter-spacing: -0.01em; }
h3 { font-size: 0.9375rem; font-weight: 600; }
header {
  display: flex; flex-wrap: wrap; gap: 0.75rem 1.5rem; align-items: center;
  justify-content: space-between; padding: 1.75rem 0 0;
}
#where, footer, caption, .note, .count { color: var(--soft); }
#where { overflow-wrap: anywhere; }
.count { font-weight: 400; }
.controls { display: flex; gap: 0.75rem; align-items: center; }
button {
  padding: 0.4rem 0.95rem; border: 1px solid var(--line); border-radius: 0.5rem;
  background: var(--card); color: var(--ink); font: inherit; cursor: pointer; min-height: 2.25rem;
}
button:hover { border-color: var(--soft); }
button[aria-pressed="true"] { background: var(--accent); border-color: var(--accent); color: var(--page); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 0.25rem; }
main:focus-visible { outline: none; }
a { color: var(--accent); }
.live { display: inline-flex; align-items: center; gap: 0.45rem; color: var(--soft); }
.live::before { content: ""; width: 0.55rem; height: 0.55rem; border-radius: 50%; background: var(--warn); }
.live.on::before { background: var(--accent); animation: pulse 2s ease-in-out infinite; }
@keyframes pulse { 50% { opacity: 0.35; } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
.skip { position: absolute; left: -100rem; padding: 0.5rem 1rem; background: var(--card); }
.skip:focus { left: 0.5rem; top: 0.5rem; z-index: 1; }
.unseen, caption.unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
.tiles { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: 0.75rem; }
.tiles > div, figure, .caps, table {
  background: var(--card); border: 1px solid var(--line); border-radius: 0.75rem;
  box-shadow: var(--shadow);
}
.tiles > div { display: flex; flex-direction: column; padding: 0.8rem 1rem; }
.tiles dt { order: 2; color: var(--soft); font-size: 0.8125rem; }
.tiles dd.number { order: 1; font-size: 1.7rem; font-weight: 600; letter-spacing: -0.03em; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.tiles dd.more { order: 3; color: var(--soft); font-size: 0.8125rem; }
.tiles dd.bad { color: var(--bad); }
.charts, .halves { display: grid; gap: 0.75rem 1rem; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
.halves { grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); }
figure { padding: 0.9rem 1rem 0.6rem; }
svg { display: block; width: 100%; height: 11rem; margin-top: 0.5rem; }
svg text { fill: var(--soft); font: 0.6875rem system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg path { fill: none; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.c2 { fill: var(--accent); } .c3 { fill: var(--info); } .c4 { fill: var(--warn); } .c5 { fill: var(--bad); }
.c0 { fill: var(--soft); }
svg path.l0 { stroke: var(--info); } svg path.l1 { stroke: var(--accent); }
svg path.l2 { stroke: var(--warn); stroke-dasharray: 1 4; }
.legend { display: flex; flex-wrap: wrap; gap: 0 0.9rem; font-size: 0.8125rem; color: var(--soft);
  font-variant-numeric: tabular-nums; }
.legend span { display: inline-flex; align-items: center; gap: 0.35rem; }
.legend i { width: 0.65rem; height: 0.65rem; border-radius: 0.15rem; background: var(--soft); }
.legend .c2 i, .legend .l1 i { background: var(--accent); } .legend .c3 i, .legend .l0 i { background: var(--info); }
.legend .c4 i, .legend .l2 i { background: var(--warn); } .legend .c5 i { background: var(--bad); }
.caps { padding: 0.5rem 1rem; }
.caps > div { padding: 0.55rem 0; display: grid; grid-template-columns: 1fr auto; gap: 0.3rem 1rem; }
.caps > div + div { border-top: 1px solid var(--line); }
.caps dd { color: var(--soft); font-variant-numeric: tabular-nums; text-align: right; }
.caps dd.bar { grid-column: 1 / -1; }
.caps svg { height: 0.375rem; margin: 0; border-radius: 1rem; background: var(--line); }
.caps rect { fill: var(--accent); } .caps .near rect { fill: var(--warn); } .caps .full rect { fill: var(--bad); }
table { width: 100%; border-collapse: separate; border-spacing: 0; overflow: hidden; }
caption { text-align: left; padding-bottom: 0.6rem; font-size: 0.875rem; }
th, td { padding: 0.55rem 0.9rem; text-align: left; vertical-align: top; }
th { font-size: 0.8125rem; font-weight: 600; color: var(--soft); white-space: nowrap; }
tbody td { border-top: 1px solid var(--line); font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; }
@media (min-width: 44.01rem) {
  #failures td:first-child { white-space: nowrap; }
  #failures td:nth-child(3), #failures td:nth-child(4) { min-width: 8rem; }
  #failures td:nth-child(5) { min-width: 17.5rem; }
  #sessions td:nth-child(2) { min-width: 11.5rem; }
  #certificates td:nth-child(2), #certificates td:nth-child(3) { min-width: 8rem; }
}
td small { display: block; color: var(--soft); font-size: 0.8125rem; }
td p + p { margin-top: 0.15rem; }
.num { text-align: right; }
code { font: 0.8125rem/1.5 var(--mono); }
.tag { display: inline-block; padding: 0 0.5rem; border-radius: 1rem; background: var(--tint);
  color: var(--accent); font-size: 0.8125rem; font-weight: 600; white-space: nowrap; }
.tag.bad { background: var(--bad-tint); color: var(--bad); font-family: var(--mono); font-weight: 500; }
tr.next td { background: var(--tint); }
tr.next .tag { background: var(--accent); color: var(--page); }
tr.next small { color: var(--ink); }
td.empty { padding: 1.4rem; color: var(--soft); text-align: center; }
footer { margin-top: 2.5rem; font-size: 0.875rem; }
@media (max-width: 60rem) {
  .charts, .halves { grid-template-columns: minmax(0, 1fr); }
  #failures td:nth-child(5) { min-width: 11rem; }
}
@media (max-width: 80rem) { .tiles { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
@media (max-width: 44rem) {
  body { padding: 0 1rem 2rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 0.5rem; }
  .tiles dd.number { font-size: 1.4rem; }
  table { background: none; border: 0; box-shadow: none; overflow: visible; }
  table, caption, tbody, tr, td { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody tr { margin-bottom: 0.6rem; padding: 0.5rem 0.9rem; background: var(--card);
    border: 1px solid var(--line); border-radius: 0.75rem; }
  tbody tr.next { background: var(--tint); border-color: var(--accent); }
  tbody td, tr.next td { display: grid; grid-template-columns: 6.5rem minmax(0, 1fr); gap: 0.6rem;
    padding: 0.25rem 0; border: 0; background: none; text-align: left; }
  tbody td::before { content: attr(data-label); color: var(--soft); font-size: 0.8125rem; padding-top: 0.1rem; }
  tr.next td::before { color: var(--ink); }
  td.empty { display: block; text-align: center; padding: 1rem 0; }
  td.empty::before { content: none; }
}
`;
