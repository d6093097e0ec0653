// Starts the page: the key, where one is needed, then one of two views, by the part of the address behind #.

import { attempt, begin } from "./actions.js";
import { keep, key, keysNeeded } from "./api.js";
import { html, render } from "./html.js";
import { model, onUpdate, state, update } from "./state.js";
import { statusView, watch } from "./status.js";
import { tryView } from "./try.js";

const VIEWS = { try: ["Try", tryView], status: ["Status", statusView] };
const place = document.getElementById("page");

function page() {
  const locked = keysNeeded() && !key();
  return html`
    <header>
      <h1>facta</h1>
      <nav aria-label="Views">${Object.entries(VIEWS).map(([name, [title]]) => html`
        <a href=${`#${name}`} aria-current=${state.view === name ? "page" : null}>${title}</a>`)}
        <a href="docs">Paths</a></nav>
      ${model()?.fingerprint ? html`<small>model ${model().name} · ${model().fingerprint}</small>` : null}
    </header>
    <main>
      ${state.error ? html`<p class="error" role="alert">${state.error}</p>` : null}
      ${locked ? askForKey() : state.models ? VIEWS[state.view][1]() : html`<p>Asking the service …</p>`}
    </main>`;
}

function askForKey() {
  const open = (event) => {
    event.preventDefault();
    keep(new FormData(event.target).get("key").trim());
    start();
  };
  return html`
    <form class="key" onSubmit=${open}>
      <label>This service needs a key
        <input name="key" type="password" autocomplete="off" required /></label>
      <button class="main">Open</button>
      <p class="hint">A key of the role admin opens all of this page; one of the role read shows lists and counters. It is kept until this tab is
        closed, and nowhere else. <code>facta keys new</code> makes one.</p>
    </form>`;
}

const start = () => (keysNeeded() && !key() ? update({}) : attempt(begin));

function look() {
  const named = location.hash.slice(1);
  update({ view: named in VIEWS ? named : "try" });
  watch();
}

onUpdate(() => render(page(), place));
place.replaceChildren();
addEventListener("hashchange", look);
look();
start();
