// The recommended items. An item that stays in the list glides to its new place; one that is new fades in.

import { attempt, choose, same, toggle } from "./actions.js";
import { Component, html, named, number } from "./html.js";

const GLIDE = { duration: 400, easing: "ease-out" };

export class Recommended extends Component {
  getSnapshotBeforeUpdate() {
    const entries = [...this.whole.children];
    return {
      tops: new Map(entries.map((entry) => [entry.dataset.id, entry.offsetTop])),
      focused: entries.findIndex((entry) => entry.contains(document.activeElement)),
    };
  }

  componentDidUpdate(props, _, { tops, focused }) {
    if (props.items === this.props.items) return;
    const entries = [...this.whole.children];
    if (focused >= 0 && !this.whole.contains(document.activeElement)) {
      // the entry that had the keyboard has gone, or the browser took the keyboard from it as it moved
      (entries[Math.min(focused, entries.length - 1)]?.querySelector(".choose") ?? document.getElementById("next")).focus();
    }
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const entry of entries) {
      const from = tops.get(entry.dataset.id);
      if (from === undefined) entry.animate([{ opacity: 0 }, { opacity: 1 }], GLIDE);
      else entry.animate([{ transform: `translateY(${from - entry.offsetTop}px)` }, { transform: "none" }], GLIDE);
    }
  }

  render({ items, before, open, scores, because }) {
    const entry = (item, place) => html`
      <li key=${String(item.id)} data-id=${String(item.id)}>
        <div class="line">
          <span class="place">${place + 1}</span>
          <button class="title" aria-expanded=${same(item.id, open)} onClick=${() => attempt(() => toggle(item.id))}>
            ${named(item)}</button>
          ${moved(before, item, place)}
          <button class="choose" aria-label=${`Choose ${named(item)}`} onClick=${() => attempt(() => choose(item))}>
            choose</button>
        </div>
        ${same(item.id, open) ? why(item, scores, because) : null}
      </li>`;
    return html`<ol class="list" ref=${(whole) => (this.whole = whole ?? this.whole)}>${items.map(entry)}</ol>`;
  }
}

function moved(before, item, place) {
  if (!before.size) return null;
  const was = before.get(String(item.id));
  if (was === undefined) return html`<span class="moved new">new</span>`;
  if (was === place) return null;
  const by = Math.abs(was - place);
  return was > place
    ? html`<span class="moved up" role="img" aria-label=${`up ${by}`}>▲ ${by}</span>`
    : html`<span class="moved down" role="img" aria-label=${`down ${by}`}>▼ ${by}</span>`;
}

function why(item, scores, because) {
  const all = [...(item.score === undefined ? [] : [["score", item.score]]), ...Object.entries(scores ?? {})];
  const most = Math.max(...(because ?? []).map((one) => Math.abs(one.change)), Number.MIN_VALUE);
  return html`
    <div class="why">
      <p><small>id ${item.id}</small></p>
      <table><caption>What the model expects</caption>
        ${all.map(([name, value]) => html`<tr key=${name}><th scope="row">${name}</th><td>${number(value, 4)}</td>
          <td>${name === "score" ? null : bar(value, 1)}</td></tr>`)}
      </table>
      ${because?.length ? html`<table class="because"><caption>The choices that moved the score most</caption>
        ${because.map((one) => html`<tr key=${one.event_id}><th scope="row">${named({ ...one, id: one.item_id })}</th>
          <td>${one.change > 0 ? "+" : ""}${number(one.change)}</td><td>${bar(Math.abs(one.change), most)}</td></tr>`)}
      </table>` : null}
    </div>`;
}

const bar = (value, most) => (value >= 0 && value <= most ? html`<meter min="0" max=${most} value=${value} aria-hidden="true" />` : null);
