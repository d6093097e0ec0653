// What a person does on the Try view -> calls of the service -> a new state.

import { call, keep, part, Refused } from "./api.js";
import { named } from "./html.js";
import { model, state, update } from "./state.js";

const K = 10; // items of a list
export const FOUND = 8; // titles that a search shows
const RANKED = 20; // titles that a model ranks which recommends nothing
const EVENTS = 50; // of a person that are shown at most
const DAY = 86_400_000; // ms
const unexplained = new Set(); // fingerprints of models whose answers are not explained
let asked = 0; // requests for a list; only the newest one is painted
let searched = 0;

// Run what may be refused; the sentence of a refusal is shown.
export async function attempt(work) {
  try {
    if (state.error) update({ error: "" });
    await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) {
      keep("");
      update({ models: null });
    }
    update({ error: error.message });
  }
}

// What is served, and some people; then the first of them is asked about.
export async function begin() {
  const { users } = await call("GET", "v1/users?k=6");
  await learnModels();
  update({ users });
  await (users.length ? choosePerson(users[0]) : inventPerson());
}

const learnModels = async () => update({ models: (await call("GET", "v1/models")).models });

export async function choosePerson(id) {
  about(id);
  let known = { events: [], num_events: 0 };
  try {
    known = await call("GET", `v1/users/${part(id)}?events=${EVENTS}`);
  } catch (error) {
    if (error.status !== 404) throw error; // nothing is known of them: that is an answer, too
  }
  if (state.user !== id) return; // somebody else was chosen meanwhile
  update({ user: known.user_id ?? id, total: known.num_events });
  await Promise.all([readEvents(state.user, known.events), ask()]);
}

export async function inventPerson() {
  const random = crypto.getRandomValues(new Uint32Array(1))[0];
  about(model()?.user_ids === "text" ? `guest-${random}` : 4_000_000_000 + random);
  await ask();
}

function about(user) {
  const nothing = { events: [], total: 0, list: [], before: new Map(), answer: null, open: null, error: "", asksToForget: false };
  update({ user, shown: 8, ...nothing });
}

async function readEvents(user, events) {
  const ids = [...new Set(events.map((event) => event.item_id))];
  const query = ids.map((id) => `id=${part(id)}`).join("&");
  const items = ids.length ? (await call("GET", `v1/items?${query}`, undefined, { quiet: true })).items : [];
  const titles = new Map(items.map((item) => [String(item.id), item.title]));
  const read = events.map((event) => line(event, titles.get(String(event.item_id)))).reverse();
  if (same(user, state.user)) update({ events: [...state.events, ...read] }); // behind what was chosen meanwhile
}

function line({ event_id, item_id, timestamp, user_id, ...values }, title) {
  return { event_id, item_id, timestamp, values, title: named({ id: item_id, title }) };
}

// Whether the model has a list of its own; one that only ranks is given the titles found.
export const recommends = () => model()?.tasks?.includes("next_item") ?? true;

// The list, for the moment and in the context that are set.
export async function ask() {
  const mine = ++asked;
  const began = performance.now();
  if (!recommends() && !state.found.length) return update({ list: [], answer: null });
  const answer = await (recommends()
    ? call("POST", "v1/recommend", { ...request(), k: K })
    : call("POST", "v1/rank", { ...request(), candidates: state.found.map((item) => item.id) }));
  if (mine !== asked) return;
  const { items, ...rest } = answer;
  const before = new Map(state.list.map((item, place) => [String(item.id), place]));
  const open = items.some((item) => same(item.id, state.open)) ? state.open : null;
  update({ list: items, before, answer: rest, ms: performance.now() - began, open });
  if (model()?.fingerprint !== answer.model.fingerprint) await learnModels(); // it was being started, or is another one now
  if (open !== null) await explain(open);
}

// Who is asked about, when, in which context, by which model.
function request() {
  const said = { user_id: state.user };
  if (state.days) said.at = new Date(Date.now() + state.days * DAY).toISOString();
  if (Object.keys(state.context).length) said.context = state.context;
  if (state.by) said.by = state.by;
  if (state.model) said.model = state.model;
  return said;
}

export const same = (one, other) => other !== null && String(one) === String(other);

export async function search(typed) {
  update({ typed });
  const mine = ++searched;
  const query = `v1/items?q=${part(typed)}&k=${recommends() ? FOUND : RANKED}`;
  const found = typed.trim() ? (await call("GET", query, undefined, { quiet: true })).items : [];
  if (mine !== searched) return;
  update({ found });
  if (!recommends()) await ask();
}

// The person chose an item now: post it, and ask again.
export async function choose(item) {
  const user = state.user;
  const time = model()?.timed ?? true ? { timestamp: new Date().toISOString() } : {};
  const event = { user_id: user, item_id: item.id, ...time, ...state.context };
  const posted = await call("POST", "v1/events", event);
  if (!same(user, state.user)) return;
  const mine = line({ ...event, event_id: posted.event_ids[0] }, item.title);
  update({ events: [mine, ...state.events], total: state.total + 1 });
  await ask();
}

export async function giveFeedback(event, field, value) {
  const path = `v1/users/${part(state.user)}/events/${part(event.event_id)}`;
  const { event: now } = await call("PATCH", path, { [field]: value });
  update({ events: state.events.map((one) => (one === event ? line(now, event.title) : one)) });
  await ask();
}

export async function takeBack(event) {
  await call("DELETE", `v1/users/${part(state.user)}/events/${part(event.event_id)}`);
  update({ events: state.events.filter((one) => one !== event), total: state.total - 1 });
  await ask();
}

export async function forget() {
  await call("DELETE", `v1/users/${part(state.user)}`);
  update({ events: [], total: 0, asksToForget: false, users: state.users.filter((one) => !same(one, state.user)) });
  await ask();
}

export async function toggle(id) {
  if (same(id, state.open)) return update({ open: null });
  update({ open: id, scores: null, because: null });
  await explain(id);
}

// The scores of an item by field, where the model ranks; the events that moved it, where the service says them.
async function explain(id) {
  const still = () => same(id, state.open);
  const listed = state.list.find((item) => same(item.id, id));
  const now = state.answer.model.fingerprint;
  if (listed?.scores) update({ scores: listed.scores });
  else if (model()?.predicts?.length) {
    const { items } = await call("POST", "v1/rank", { ...request(), candidates: [id] });
    if (still()) update({ scores: items[0]?.scores ?? null });
  }
  if (!recommends() || unexplained.has(now)) return;
  try {
    const { items } = await call("POST", "v1/recommend", { ...request(), k: K, explain: true }, { quiet: true });
    if (still()) update({ because: items.find((item) => same(item.id, id))?.because ?? null });
  } catch (error) {
    if (!(error instanceof Refused) || error.status === 401) throw error;
    if (error.status === 422) unexplained.add(now); // it does not explain: nothing is said, and nobody asks again
  }
}
