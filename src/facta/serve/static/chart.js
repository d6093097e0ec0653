// A chart by uPlot, with its latest values as text beside it. uPlot comes when the first chart is wanted.

import { Component, html } from "./html.js";

const HEIGHT = 140; // px
let loading = null;

// uPlot's minified file is a script, not a module: it leaves `uPlot` on the window.
export function plotting() {
  loading ??= new Promise((loaded, failed) => {
    const script = document.createElement("script");
    script.src = "static/vendor/uPlot.js";
    script.onload = loaded;
    script.onerror = () => failed(new Error("uPlot was not loaded"));
    document.head.append(script);
  });
  return loading;
}

// `lines`: name of a value -> what it is; `values`: one object for each time.
export function chart({ title, lines, write }, times, values) {
  const said = Object.entries(lines).map(([name, label]) => [label, values.at(-1)?.[name]]);
  return html`
    <figure key=${title}>
      <figcaption>${title}<span>${said.map(([label, value], place) => html`
        <small class=${`line${place}`}>${label} <b>${value === null ? "–" : write(value)}</b></small>`)}</span></figcaption>
      <${Plot} title=${title} labels=${Object.values(lines)} write=${write}
        data=${[times, ...Object.keys(lines).map((name) => values.map((one) => one[name]))]} />
    </figure>`;
}

class Plot extends Component {
  componentDidMount() {
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
    const { labels, write, data } = this.props;
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--edge"), width: 1 }, ticks: { show: false } };
    const line = (label, place) => ({ label, stroke: colour(place ? "--second" : "--accent"), width: 2, spanGaps: true, points: { show: false } });
    const clock = (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toLocaleTimeString("en", { hour12: false }));
    const options = {
      width: this.place.clientWidth, height: HEIGHT, legend: { show: false }, cursor: { show: false },
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
      series: [{}, ...labels.map(line)],
      axes: [{ ...axis, size: 26, space: 80, values: clock }, { ...axis, size: 60, values: (_, ticks) => ticks.map((tick) => write(tick)) }],
    };
    this.plot = new window.uPlot(options, data, this.place);
    this.resized = new ResizeObserver(() => this.plot.setSize({ width: this.place.clientWidth, height: HEIGHT }));
    this.resized.observe(this.place);
  }

  componentDidUpdate() {
    this.plot.setData(this.props.data);
  }

  componentWillUnmount() {
    this.resized.disconnect();
    this.plot.destroy();
  }

  shouldComponentUpdate({ data }) {
    return data[0].length !== this.props.data[0].length || data[0].at(-1) !== this.props.data[0].at(-1);
  }

  render({ title }) {
    return html`<div class="plot" role="img" aria-label=${title} ref=${(place) => (this.place = place ?? this.place)} />`;
  }
}
