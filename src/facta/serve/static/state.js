// All that the page knows, in one object. `update` changes it and paints.

export const state = {
  view: "try",
  error: "", // the last sentence of a refusal
  models: null, // of GET /v1/models; null: not known yet
  model: "", // the name that is asked for; "": the service chooses
  users: [], // some of the people whom the service knows
  user: null, // who is asked about: an id, as the service writes it
  events: [], // of the user, newest first: {event_id, item_id, title, timestamp, values}
  total: 0, // events of the user that the service knows
  shown: 8, // events
  typed: "", // what titles are searched for
  found: [], // titles: {id, title}
  days: 0, // how far ahead is asked
  context: {}, // field -> value, as told with requests and events
  by: "", // the score that orders the list; "": the model's own order
  list: [], // the answer's items
  before: new Map(), // id -> place in the list before
  answer: null, // the last list's answer, without its items
  ms: 0, // from sending the request to its parsed answer
  open: null, // the id whose scores are shown
  scores: null, // of the open item: name -> number
  because: null, // events that moved the open item's score
  asksToForget: false,
  samples: [], // of /metrics, oldest first
};

let paint = () => {};

export function onUpdate(painter) {
  paint = painter;
}

export function update(changes) {
  Object.assign(state, changes);
  paint();
}

// The model that answers, as the service describes it.
export const model = () =>
  state.models?.find((one) => one.name === (state.answer?.model.name || state.model || "default")) ?? state.models?.[0];
