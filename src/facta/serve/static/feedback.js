// Buttons for the feedback that the log knows: one field, one row. What is pressed is posted, and the list follows.

import { attempt, giveFeedback } from "./actions.js";
import { html } from "./html.js";
import { model } from "./state.js";

const MANY = 8; // values that are buttons; more of them are a select

export function feedback(event) {
  const fields = (model()?.fields ?? []).filter((field) => field.role === "feedback");
  return fields.length ? html`<div class="feedback">${fields.map((field) => one(event, field))}</div>` : null;
}

function one(event, field) {
  const label = `${field.name} of ${event.title}`;
  const now = event.values[field.name];
  const give = (value) => attempt(() => giveFeedback(event, field.name, value));
  if (field.kind === "binary") {
    return html`<button aria-pressed=${now === 1} aria-label=${label} onClick=${() => give(now === 1 ? 0 : 1)}>${field.name}</button>`;
  }
  const values = field.levels ?? field.categories;
  if (values?.length <= MANY) {
    const button = (value) => html`<button key=${value} aria-pressed=${now === value} aria-label=${`${label}: ${value}`}
      onClick=${() => give(value)}>${value}</button>`;
    return html`<span role="group" aria-label=${label}><small>${field.name}</small> ${values.map(button)}</span>`;
  }
  if (values) {
    return html`<label><small>${field.name}</small> <select aria-label=${label}
      onChange=${({ target }) => give(field.levels ? Number(target.value) : target.value)}>
      <option value="" disabled selected=${now === undefined || now === null}>not said</option>
      ${values.map((value) => html`<option value=${value} selected=${now === value}>${value}</option>`)}</select></label>`;
  }
  return html`<label><small>${field.name}</small> <input type="number" step="any" value=${now ?? ""} aria-label=${label}
    onChange=${({ target }) => target.value !== "" && give(Number(target.value))} /></label>`;
}
