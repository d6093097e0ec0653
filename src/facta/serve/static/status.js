// The Status view: /metrics once a second, as long as somebody looks.

import { attempt } from "./actions.js";
import { call, key, keysNeeded } from "./api.js";
import { chart, plotting } from "./chart.js";
import { between, sample } from "./counters.js";
import { bytes, html, number } from "./html.js";
import { state, update } from "./state.js";

const EVERY = 1000; // ms between looks
const KEPT = 300; // looks
let timer = 0;

// Begin to look, or end it, by the view that is shown.
export function watch() {
  clearTimeout(timer);
  if (state.view === "status") look();
}

async function look() {
  if (!keysNeeded() || key()) {
    await attempt(async () => {
      const [text] = await Promise.all([call("GET", "metrics", undefined, { quiet: true }), plotting()]);
      update({ samples: [...state.samples, sample(text, Date.now())].slice(-KEPT) });
    });
  }
  if (state.view === "status") timer = setTimeout(look, EVERY);
}

const CHARTS = [
  { title: "Requests a second", lines: { answered: "answered", refused: "refused" }, write: number },
  { title: "Latency of lists, ms", lines: { middle: "half below", late: "99 % below" }, write: number },
  { title: "Requests that wait", lines: { waiting: "waiting" }, write: number },
  { title: "Requests in a step", lines: { step: "mean" }, write: number },
  { title: "From the cache, %", lines: { hits: "of the answers" }, write: number },
  { title: "Bytes kept of people", lines: { bytes: "kept" }, write: bytes },
  { title: "Events a second", lines: { events: "accepted" }, write: number },
];

export function statusView() {
  const { samples } = state;
  const found = samples.slice(1).map((now, place) => between(samples[place], now));
  const times = samples.slice(1).map((one) => one.time / 1000);
  return html`
    <p class="lead">What the service does, looked at once a second. These looks are not counted.</p>
    ${samples.length < 2 ? html`<p>Two looks make the first point …</p>` : html`
      ${totals(samples.at(-1))}
      <div class="charts">${CHARTS.map((one) => chart(one, times, found))}</div>`}
    <h2>Models</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Models">
    <table class="models"><thead><tr><th>name</th><th>kind</th><th>items</th><th>fingerprint</th><th>protocol</th></tr></thead>
      <tbody>${state.models.map((one) => html`<tr key=${one.name}><th scope="row">${one.name}</th>
        <td>${one.ready ? one.kind : "is being started"}</td><td>${one.items?.toLocaleString("en")}</td>
        <td><code>${one.fingerprint}</code></td>
        <td><code>${one.metrics?.at(-1)?.protocol ?? "never evaluated"}</code></td></tr>`)}</tbody></table></div>`;
}

function totals({ of }) {
  const counted = [
    ["requests", of("facta_requests_total", (labels) => !labels.includes("GET /metrics"))],
    ["lists answered", of("facta_engine_answered_total")],
    ["from the cache", of("facta_engine_answered_from_cache_total")],
    ["people kept", of("facta_engine_cache_people")],
    ["events accepted", of("facta_events_total")],
    ["too late", of("facta_engine_expired_total")],
  ];
  return html`<dl class="totals">${counted.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value.toLocaleString("en")}</dd></div>`)}</dl>`;
}
