// Preact's elements as tagged templates, and how times and numbers are written.

import htm from "./vendor/htm.mjs";
import { h } from "./vendor/preact.mjs";

export { Component, render } from "./vendor/preact.mjs";
export const html = htm.bind(h);

export const number = (value, digits = 3) =>
  typeof value === "number" ? value.toLocaleString("en", { maximumSignificantDigits: digits }) : "–";

export const day = (time) => new Date(time).toLocaleDateString("en", { year: "numeric", month: "short", day: "numeric" });

export function bytes(value) {
  const names = ["B", "kB", "MB", "GB", "TB"];
  const step = value > 0 ? Math.min(Math.floor(Math.log10(value) / 3), 4) : 0;
  return `${number(value / 1000 ** step)} ${names[step]}`;
}

// What an item is called: by its title, or by its id where it has none.
export const named = (item) => item.title || `item ${item.id}`;
