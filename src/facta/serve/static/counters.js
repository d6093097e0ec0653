// The counters of /metrics -> what went on between two looks at them.

const LINE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="([^"]*)"/g;
const ASKS = /"POST \/v1\/(recommend|rank)"/;

// Text in the format of Prometheus -> {time, of}: `of(name, filter)` is the sum of the series whose labels fit.
export function sample(text, time) {
  const series = [];
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (found) series.push({ name: found[1], labels: found[2] ?? "", value: Number(found[3]) });
  }
  const of = (name, fits = () => true) =>
    series.reduce((sum, one) => (one.name === name && fits(one.labels) ? sum + one.value : sum), 0);
  return { time, of, series };
}

// Upper ends of latencies in seconds -> requests for lists that took at most so long.
function latencies({ series }) {
  const found = new Map();
  for (const { name, labels, value } of series) {
    if (name !== "facta_request_seconds_bucket" || !ASKS.test(labels)) continue;
    const { le } = Object.fromEntries([...labels.matchAll(LABEL)].map(([, label, text]) => [label, text]));
    const end = le === "+Inf" ? Infinity : Number(le);
    found.set(end, (found.get(end) ?? 0) + value);
  }
  return found;
}

// The latency in ms that a share of the requests between two samples stayed below, by lines between the ends of the
// buckets; null where nobody asked.
export function quantile(then, now, share) {
  const before = latencies(then);
  const grown = [...latencies(now)].map(([end, count]) => [end, count - (before.get(end) ?? 0)]).sort(([a], [b]) => a - b);
  const wanted = share * (grown.at(-1)?.[1] ?? 0);
  let [low, below] = [0, 0];
  for (const [end, count] of grown) {
    if (count >= wanted && count > below) {
      return 1000 * (end === Infinity ? low : low + ((end - low) * (wanted - below)) / (count - below));
    }
    [low, below] = [end, count];
  }
  return null;
}

// What the charts show of the time between two samples.
export function between(then, now) {
  const seconds = (now.time - then.time) / 1000;
  const grown = (name, fits) => Math.max(now.of(name, fits) - then.of(name, fits), 0);
  const requests = (fits) => grown("facta_requests_total", (labels) => !labels.includes("GET /metrics") && fits(labels)) / seconds;
  const answered = grown("facta_engine_answered_total");
  const steps = grown("facta_engine_steps_total");
  return {
    answered: requests((labels) => /status="[23]/.test(labels)),
    refused: requests((labels) => /status="[45]/.test(labels)),
    middle: quantile(then, now, 0.5),
    late: quantile(then, now, 0.99),
    waiting: now.of("facta_engine_waiting"),
    step: steps ? answered / steps : null,
    hits: answered ? (100 * grown("facta_engine_answered_from_cache_total")) / answered : null,
    bytes: now.of("facta_engine_cache_bytes"),
    events: grown("facta_events_total") / seconds,
  };
}
