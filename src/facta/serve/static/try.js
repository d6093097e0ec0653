// The Try view: who, what they chose, what comes next, and what an engineer wants to know of it.

import { attempt, ask, choose, choosePerson, forget, FOUND, inventPerson, recommends, same, search, takeBack } from "./actions.js";
import { calls, curl } from "./api.js";
import { feedback } from "./feedback.js";
import { day, html, named, number } from "./html.js";
import { Recommended } from "./list.js";
import { model, state, update } from "./state.js";

const DAYS = 28; // that may be asked ahead

export const tryView = () => html`
  <p class="lead">Pick somebody, or invent somebody. Choose what they like: the next list knows it. The model reads the
    choices; nothing is trained.</p>
  <div class="columns">
    <div>
      ${who()} ${choosing()} ${chosen()}
    </div>
    <div>
      ${next()} ${engineer()}
    </div>
  </div>
`;

function who() {
  const ask = (event) => {
    event.preventDefault();
    const id = new FormData(event.target).get("user").trim();
    if (id) attempt(() => choosePerson(id));
  };
  const person = (id) => html`
    <button key=${id} aria-pressed=${same(id, state.user)} onClick=${() => attempt(() => choosePerson(id))}>${id}</button>`;
  return html`
    <section aria-labelledby="who">
      <h2 id="who">1. Who?</h2>
      <div class="row">
        ${state.users.map(person)}
        <button class="main" onClick=${() => attempt(inventPerson)}>Invent somebody</button>
      </div>
      <form class="row" onSubmit=${ask}>
        <label>Any id <input name="user" autocomplete="off" size="14" /></label>
        <button>Ask about them</button>
      </form>
      <p><strong class="user">${state.user}</strong>: ${known()} ${forgetting()}</p>
    </section>`;
}

const plural = (count) => (count === 1 ? "one choice" : `${count} choices`);

const known = () => (state.total ? `${plural(state.total)} known.` : "nothing is known of them yet.");

function forgetting() {
  if (!state.total) return null;
  if (!state.asksToForget) return html`<button class="quiet" onClick=${() => update({ asksToForget: true })}>Forget me</button>`;
  return html`<span role="group" aria-label="Forget this person?">
    Delete all that the service knows of them?${" "}
    <button class="danger" onClick=${() => attempt(forget)}>Forget</button>${" "}
    <button onClick=${() => update({ asksToForget: false })}>Keep</button></span>`;
}

function choosing() {
  const first = (event) => {
    event.preventDefault();
    if (state.found.length) attempt(() => choose(state.found[0]));
  };
  return html`
    <section aria-labelledby="what">
      <h2 id="what">2. What do they choose?</h2>
      <form onSubmit=${first}>
        <label>Search titles
          <input type="search" autocomplete="off" value=${state.typed} placeholder="a word of a title"
            onInput=${({ target: { value } }) => attempt(() => search(value))} /></label>
      </form>
      ${state.typed.trim() && !state.found.length ? html`<p class="hint">No title has all these words.</p>` : null}
      <ul class="found" aria-label="Titles found">
        ${state.found.slice(0, FOUND).map((item) => html`<li key=${item.id}>
          <button onClick=${() => attempt(() => choose(item))}>+ ${named(item)}</button></li>`)}
      </ul>
    </section>`;
}

function chosen() {
  if (!state.events.length) return null;
  const shown = state.events.slice(0, state.shown);
  const more = state.events.length - shown.length;
  return html`
    <section class="after" aria-labelledby="chosen">
      <h2 id="chosen">What they chose, newest first</h2>
      <ol class="chosen">
        ${shown.map((event) => html`<li key=${event.event_id}>
          <div class="line"><span>${event.title}</span>
            <small>${event.timestamp ? day(event.timestamp) : ""}</small>
            <button class="quiet" aria-label=${`Take back ${event.title}`} onClick=${() => attempt(() => takeBack(event))}>
              take back</button></div>
          ${feedback(event)}</li>`)}
      </ol>
      ${more > 0 ? html`<button onClick=${() => update({ shown: state.events.length })}>Show ${more} more</button>` : null}
    </section>`;
}

function next() {
  const rule = state.answer?.source === "popularity" ? "what most people choose, for nothing is known of this person" : "";
  return html`
    <section aria-labelledby="next">
      <h2 id="next" tabindex="-1">3. What comes next?</h2>
      ${controls()}
      <p class="hint" aria-live="polite">${state.answer ? rule || `what the model expects after ${plural(state.total)}` : ""}${
        state.list.length ? html`<span class="hidden">; first ${named(state.list[0])}</span>` : ""}</p>
      ${state.answer && !state.list.length ? html`<p>Nothing is left to recommend.</p>` : null}
      ${!state.answer && !recommends()
        ? html`<p>This model ranks and recommends nothing of its own: search titles, and they are ranked here.</p>` : null}
      <${Recommended} items=${state.list} before=${state.before} open=${state.open} scores=${state.scores} because=${state.because} />
    </section>`;
}

function controls() {
  const { timed = true, reads_time: reads = true, fields = [], predicts = [], context: told = [] } = model() ?? {};
  const weeks = state.days % 7 === 0 && state.days ? `${state.days / 7} week${state.days > 7 ? "s" : ""}` : `${state.days} days`;
  const change = (changes) => {
    update(changes);
    attempt(ask);
  };
  const told_of = (field) => html`
    <label key=${field.name}>${field.name}
      <select onChange=${(event) => change({ context: said(field.name, event.target.value) })}>
        <option value="">not said</option>
        ${field.categories.map((one) => html`<option selected=${state.context[field.name] === one}>${one}</option>`)}
      </select></label>`;
  return html`
    <div class="row">
      ${timed ? html`<label class="slider">Ask${" "}<output>${state.days ? `in ${weeks}` : "now"}</output>
        <input type="range" min="0" max=${DAYS} value=${state.days} aria-valuetext=${state.days ? `in ${weeks}` : "now"}
          onInput=${(event) => change({ days: Number(event.target.value) })} /></label>` : null}
      ${timed && !reads && state.days ? html`<small>This model reads no times: the list stays.</small>` : null}
      ${fields.filter((one) => told.includes(one.name) && one.categories?.length <= 50).map(told_of)}
      ${predicts.length && recommends() ? html`<label>Order by
        <select onChange=${(event) => change({ by: event.target.value })}>
          <option value="">what comes next</option>
          ${predicts.map((one) => html`<option selected=${state.by === one}>${one}</option>`)}
        </select></label>` : null}
      ${state.models?.length > 1 ? html`<label>Model
        <select onChange=${(event) => change({ model: event.target.value })}>
          <option value="">as the service chooses</option>
          ${state.models.map((one) => html`<option selected=${state.model === one.name}>${one.name}</option>`)}
        </select></label>` : null}
    </div>`;
}

function said(name, value) {
  const { [name]: _, ...others } = state.context;
  return value ? { ...others, [name]: value } : others;
}

function engineer() {
  const { answer } = state;
  const measured = model()?.metrics?.findLast((one) => one.stage === "test") ?? model()?.metrics?.at(-1);
  const facts = answer && [
    ["latency", `${number(state.ms)} ms`],
    ["cached", answer.cached ? "yes: it began from kept keys and values" : "no"],
    ["source", answer.source],
    ["model", `${answer.model.name}, ${model()?.kind ?? ""}`],
    ["fingerprint", answer.model.fingerprint],
    ["protocol", measured?.protocol ?? "never evaluated"],
    ["asked as of", answer.at],
    ["request id", answer.request_id],
  ];
  return html`
    <section class="last" aria-labelledby="engineer">
      <h2 id="engineer">For engineers</h2>
      ${facts ? html`<dl>${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>` : null}
      <h3>The last calls</h3>
      ${calls.map((one, place) => html`<details key=${place} open=${place === 0}>
        <summary>${one.method} ${decodeURI(one.path.split("?")[0])} <small>${one.status}, ${number(one.ms)} ms</small></summary>
        <pre tabindex="0">${curl(one)}</pre></details>`)}
    </section>`;
}
