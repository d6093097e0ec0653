// Calls of the service, the key that they carry, and each as a line of curl.

const KEY = "facta-key"; // of sessionStorage: it ends with the tab
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g; // texts and numbers of JSON
const CALLS = 6; // that are remembered

export const keysNeeded = () => document.documentElement.dataset.keys === "needed";
export const key = () => sessionStorage.getItem(KEY) ?? "";
export const keep = (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY));

export const calls = []; // newest first

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

// JSON, but a whole number that a double cannot hold becomes the text of its digits: an id beyond 2^53 stays what it is,
// and the service takes "9007199254740993" and 9007199254740993 for one id.
export function parse(text) {
  const exact = (token) => (/^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"${token}"` : token);
  return JSON.parse(text.replace(TOKEN, exact));
}

// A part of a path that stands for an id, with any character in it.
export const part = (id) => encodeURIComponent(String(id));

// The answer of the service. Throws Refused with the service's sentence. `quiet`: not to be listed among the calls.
export async function call(method, path, body, { quiet = false } = {}) {
  const headers = key() ? { Authorization: `Bearer ${key()}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const began = performance.now();
  const sent = { method, path, body, status: 0, ms: 0 };
  let answer, text;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    text = await answer.text();
  } catch {
    throw new Refused(0, "The service does not answer; look whether it runs.");
  }
  sent.ms = performance.now() - began;
  sent.status = answer.status;
  if (!quiet) calls.splice(0, CALLS, sent, ...calls.slice(0, CALLS - 1));
  if (!(answer.headers.get("content-type") ?? "").includes("json")) return text;
  const found = parse(text);
  if (!answer.ok) throw new Refused(answer.status, found.detail ?? `The service answered ${answer.status}.`);
  return found;
}

// The same call for a terminal. The key is not part of it: lines like this end up in histories and chats.
export function curl({ method, path, body }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const words = ["curl -s"];
  if (method !== (body === undefined ? "GET" : "POST")) words.push(`-X ${method}`);
  if (keysNeeded()) words.push('-H "Authorization: Bearer $FACTA_KEY"');
  if (body !== undefined) words.push(`--json ${quoted(JSON.stringify(body))}`);
  return [...words, quoted(new URL(path, location.href).href)].join(" ");
}
