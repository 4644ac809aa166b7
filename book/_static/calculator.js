/* The calculator of book/calculator.md: multiplies, adds and draws what calculator_data.js
   holds, which attnbook has made. It fetches nothing and stores nothing. A pasted
   config.json goes to the book's Python reader, in a frame that is made when it is needed
   (_ext/reader.py); what comes back is shown as text, never as HTML. */
(() => {
  "use strict";
  const FIGURES = [
    "bytes_per_token_all_layers", "bytes_per_token_growing", "indexer_bytes_per_token",
    "window_bytes_max", "state_bytes", "total_bytes",
  ];
  const FIRST = { model: "gpt-oss-120b", context: "131072", batch: "1", dtype: "bf16" };
  const CONTEXTS = [8192, 131072]; // beside the chosen one and the model's maximum
  const HERE = document.currentScript.src;
  const UNITS = [["TiB", 40n], ["GiB", 30n], ["MiB", 20n], ["KiB", 10n]];

  // --- exact numbers: [numerator, denominator] in BigInt; null is "not known" ----------

  const exact = (x) => {
    if (x === null) return null;
    const [n, d = "1"] = String(x).split("/");
    return [BigInt(n), BigInt(d)];
  };
  const times = (...xs) =>
    xs.includes(null) ? null : xs.reduce(([a, b], [c, d]) => [a * c, b * d], [1n, 1n]);
  const plus = (...xs) =>
    xs.includes(null) ? null
      : xs.reduce(([a, b], [c, d]) => (b === d ? [a + c, b] : [a * d + c * b, b * d]), [0n, 1n]);
  const up = (x) => x && [(x[0] + x[1] - 1n) / x[1], 1n];
  const real = (x) => Number(x[0]) / Number(x[1]);
  const commas = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

  /** The exact value in digits: whole, or a decimal number, or "unknown". */
  function digits(x) {
    if (x === null) return "unknown";
    return x[0] % x[1] === 0n ? String(x[0] / x[1]) : String(real(x));
  }

  /** Bytes in the unit that suits them, two digits behind the point, ties to even. */
  function human(x) {
    if (x === null) return "unknown";
    for (const [unit, shift] of UNITS) {
      const size = x[1] << shift;
      if (x[0] < size) continue;
      let hundredths = (x[0] * 100n) / size;
      const rest = 2n * ((x[0] * 100n) % size) - size;
      if (rest > 0n || (rest === 0n && hundredths % 2n === 1n)) hundredths += 1n;
      return `${hundredths / 100n}.${String(hundredths % 100n).padStart(2, "0")} ${unit}`;
    }
    return `${Number(real(x).toPrecision(6))} B`;
  }

  // --- the ledger, as in attnbook/models/ledger.py ------------------------------------

  /** Numbers that one layer of a group holds of `context` tokens (BigInt), apart. */
  function heldApart(group, context) {
    let windows = exact(0), longest = context;
    if (group.window) {
      const [entry, tokens] = group.window.map(exact);
      const inside = tokens && [tokens[0] < context ? tokens[0] : context, 1n];
      windows = times(entry, inside);
    }
    if (group.ratio !== null) {
      const ratio = BigInt(group.ratio);
      longest = (context / ratio) * ratio; // only whole entries are made
    }
    const rest = [longest, 1n];
    const growing = times(exact(group.growing), rest);
    return { growing, windows, indexer: times(exact(group.index), rest) };
  }

  const held = (group, context) => plus(...Object.values(heldApart(group, context)));

  /** The bytes of a cache apart, under the names of attnbook.parts; null: not known. */
  function parts(model, { context, batch, dtype }) {
    const size = [BigInt(attnbook.limits.bits[dtype]), 8n], texts = [BigInt(batch), 1n];
    const found = {};
    for (const name of Object.keys(attnbook.parts)) {
      const one = (g) => (name === "states" ? exact(g.state)
        : times(heldApart(g, BigInt(context))[name], size));
      found[name] = times(texts, plus(...model.groups.map((g) => times(exact(g.layers), one(g)))));
    }
    return Object.values(found).includes(null) ? null : found;
  }

  function ledger(model, { context, batch, dtype }) {
    const size = [BigInt(attnbook.limits.bits[dtype]), 8n], texts = [BigInt(batch), 1n];
    const tokens = BigInt(context);
    const sum = (f) =>
      plus(...model.groups.map((g) => times(exact(g.layers), f(g))));
    const bytes = (g) => plus(times(held(g, tokens), size), exact(g.state));
    const most = (g) => (g.window ? times(...g.window.map(exact)) : exact(0));
    const kinds = new Map();
    for (const g of model.groups) {
      const row = kinds.get(g.kind) ?? { kind: g, layers: 0, bytes: exact(0) };
      row.layers += g.layers;
      row.bytes = plus(row.bytes, times(texts, exact(g.layers), bytes(g)));
      kinds.set(g.kind, row);
    }
    return {
      bytes_per_token_all_layers: times(sum((g) => exact(g.entry)), size),
      bytes_per_token_growing: times(sum((g) => exact(g.growing)), size),
      indexer_bytes_per_token: times(sum((g) => exact(g.index)), size),
      window_bytes_max: up(times(texts, sum(most), size)),
      state_bytes: times(texts, sum((g) => exact(g.state))),
      total_bytes: up(times(texts, sum(bytes))),
      kinds: [...kinds.values()].map((row) => ({ ...row, bytes: up(row.bytes) })),
    };
  }

  function remarks(model, { context, dtype }) {
    const found = [...model.notes, ...(model.more[dtype] ?? [])];
    if (model.context !== null && context > model.context) {
      const limit = commas(model.context);
      found.push(`${commas(context)} tokens are more than the ${limit} of the file`);
    }
    if (model.unknown.length) found.push(`not found: ${model.unknown.join(", ")}`);
    return found;
  }

  // --- the page -----------------------------------------------------------------------

  const $ = (name) => document.getElementById(`kv-${name}`);
  const models = new Map(attnbook.models.map((model) => [model.id, model]));
  let spoken, drawn;

  /** A new element with attributes and text or children. */
  function make(tag, attributes = {}, ...children) {
    const svg = ["svg", "path", "line", "circle", "rect", "text", "g"].includes(tag);
    const node = svg
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  /** A whole number from a field, or null, with the field marked as wrong. */
  function whole(name, most, what) {
    const field = $(name), wrong = $(`${name}-wrong`);
    const text = field.value.replace(/[\s,_]/g, "");
    const value = /^\d{1,15}$/.test(text) ? Number(text) : 0;
    const right = value >= 1 && value <= most;
    wrong.hidden = right;
    wrong.textContent = right ? "" : `A whole number of ${what}, from 1 to ${commas(most)}.`;
    if (right) field.removeAttribute("aria-invalid");
    else field.setAttribute("aria-invalid", "true");
    return right ? value : null;
  }

  /** Read the controls, count, and show. */
  function show() {
    const model = models.get($("model").value);
    const { longest, batch: most } = attnbook.limits;
    const wish = {
      context: whole("context", longest, "tokens"),
      batch: whole("batch", most, "texts"),
      dtype: $("dtype").value,
    };
    $("maximum").disabled = model.context === null;
    const complete = wish.context !== null && wish.batch !== null;
    document.getElementById("kv").classList.toggle("kv-stale", !complete);
    if (!complete) return say($("context-wrong").textContent || $("batch-wrong").textContent);
    const bill = ledger(model, wish);
    for (const name of FIGURES) {
      const [size, bytes] = document.querySelectorAll(`#kv-ledger [data-name=${name}] td`);
      const value = digits(bill[name]);
      size.replaceChildren(number("span", {}, human(bill[name])));
      bytes.replaceChildren(number("data", { value }, value === "unknown" ? "" : pretty(value)));
    }
    $("kinds").tBodies[0].replaceChildren(...bill.kinds.map(kindRow));
    $("notes").replaceChildren(...remarks(model, wish).map((text) => make("li", {}, text)));
    $("link").setAttribute("href", address(model, wish));
    $("link").hidden = model.pasted === true;
    if (drawn !== model) card(model);
    drawn = model;
    bars(model, wish);
    const tokens = `${commas(wish.context)} token${wish.context === 1 ? "" : "s"}`;
    $("slider").value = Math.round(Math.log2(wish.context));
    $("slider").setAttribute("aria-valuetext", tokens);
    draw(model, wish, bill, tokens);
    const texts = wish.batch === 1 ? "1 text" : `${commas(wish.batch)} texts`;
    say(`${model.name}, ${texts} of ${tokens} in ${wish.dtype}: ${human(bill.total_bytes)}`);
  }

  const pretty = (value) => {
    const [before, after] = value.split(".");
    return commas(before) + (after ? `.${after}` : "");
  };

  /** A number that is never broken, unless it is longer than a phone can show. */
  const number = (tag, attributes, text) =>
    make(tag, text.length > 20 ? { ...attributes, class: "kv-long" } : attributes, text);

  function kindRow({ kind, layers, bytes }) {
    const keeps = models.get($("model").value).card.kinds[kind.kind];
    const name = make("th", { scope: "row" }, cell({ ...kind, shares: false }), ` ${kind.kind}`,
      make("span", { class: "kv-keeps" }, keeps));
    const size = make("td", {}, number("data", { value: digits(bytes) }, human(bytes)));
    return make("tr", {}, name, make("td", {}, commas(layers)), size);
  }

  /** The sentence above the table at once; to a screen reader when the hand has stopped. */
  function say(sentence) {
    $("headline").textContent = sentence;
    clearTimeout(spoken);
    spoken = setTimeout(() => { $("status").textContent = sentence; }, 600);
  }

  // --- the card, as in attnbook/draw/card.py ---------------------------------------------

  /** What of the card does not depend on context, batch and format. */
  function card(model) {
    const { by, heads, sizes, source, ordered } = model.card;
    $("card-name").textContent = model.name;
    $("card-by").textContent = by ?? "pasted: developer and date are not in the file";
    const count = model.order.length;
    const most = model.context === null ? "unknown" : `${commas(model.context)} tokens`;
    $("layers").replaceChildren(count === 1 ? "1 layer " : `${commas(count)} layers `,
      make("span", { class: "kv-aside" }, `maximum ${most}`));
    $("strip").replaceChildren(...model.order.map((i) => cell(model.groups[i])));
    $("strip").setAttribute("aria-label", ordered ? inOrder(model) : inAll(model));
    const shared = model.groups.reduce((n, g) => n + (g.shares ? g.layers : 0), 0);
    const said = [];
    if (!ordered) said.push("In what order they stand is unknown.");
    if (shared) said.push(`${shared} hollow cells use another layer’s cache.`);
    $("strip-said").textContent = said.join(" ");
    $("strip-said").hidden = !said.length;
    $("heads").replaceChildren(...heads.flatMap(([words, H, groups, mixer]) =>
      [make("p", {}, words), ...(H ? [comb(H, groups, mixer)] : [])]));
    if (!heads.length) $("heads").append("no attention layers, or nothing known of their heads");
    $("sizes").replaceChildren(...sizes.map(([label, words]) =>
      make("div", {}, make("dt", {}, label), make("dd", {}, words))));
    $("source").replaceChildren(...source.map((text) => make("li", {}, text)));
  }

  /** A layer: letter and colour of its mixer; hollow where it uses another's cache; a
      second mixer beside it as a bar below. */
  function cell(group) {
    const [first, beside] = group.kind.split(" + ");
    const { letter, fill, ink } = attnbook.mixers[first];
    const node = make("span", { class: "kv-cell" }, letter);
    const hollow = fill === "none" || group.shares;
    if (fill === "none") node.classList.add("kv-blank");
    else node.style.borderColor = fill;
    if (!hollow) Object.assign(node.style, { backgroundColor: fill, color: ink });
    if (beside) {
      node.classList.add("kv-beside");
      node.style.borderBottomColor = attnbook.mixers[beside].fill;
    }
    return node;
  }

  /** The layers in words: runs of the same kind, or how many if there are many runs. */
  function inOrder({ order, groups }) {
    const runs = [];
    for (const i of order) {
      const { kind } = groups[i];
      if (runs.at(-1)?.[1] === kind) runs.at(-1)[0] += 1;
      else runs.push([1, kind]);
    }
    const first = runs.slice(0, 8).map((run) => run.join(" ")).join(", then ");
    const rest = `, and so on; in all ${counts({ order, groups })}`;
    return `Layers in order: ${first}${runs.length > 8 ? rest : ""}`;
  }

  const inAll = (model) => `Layers, their order unknown: ${counts(model)}`;

  /** How many layers there are of each kind, in words. */
  function counts({ order, groups }) {
    const found = new Map();
    for (const i of order) found.set(groups[i].kind, (found.get(groups[i].kind) ?? 0) + 1);
    return [...found].map(([kind, n]) => `${n} ${kind}`).join(", ");
  }

  /** Query heads as ticks over the key/value heads, or the one latent, that they read. */
  function comb(H, groups, mixer) {
    const wide = 10 * H, queries = H > 256 ? 1 : H, shared = groups > 256 ? 1 : groups;
    const svg = make("svg", { class: "kv-comb", viewBox: `0 0 ${wide} 25`,
      preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.style.width = `min(100%, ${H * 0.9}rem)`;
    const row = (n, gap, y, fill) => {
      for (let i = 0; i < n; i += 1) {
        const place = { x: (i * wide) / n, y, width: wide / n - gap, height: 10 };
        svg.append(make("rect", { ...place, fill }));
      }
    };
    row(queries, queries === 1 && H > 1 ? 0 : 2.2, 0, attnbook.query);
    if (shared) row(shared, 2.2, 14, attnbook.mixers[mixer].fill);
    else svg.append(make("rect", { class: "kv-hollow", x: 0, y: 14, width: wide - 2.2, height: 10 }));
    return svg;
  }

  /** The ledger as bars on one scale: at the chosen context, at two others, at the most. */
  function bars(model, wish) {
    const limit = model.context ?? Infinity;
    const others = [...CONTEXTS, limit].filter((n) => n <= limit && n < Infinity);
    const at = [...new Set([...others, wish.context])].sort((a, b) => a - b);
    const rows = at.map((context) => [context, parts(model, { ...wish, context })]);
    const whole = (found) => found && real(plus(...Object.values(found)));
    const top = Math.max(...rows.map(([, found]) => whole(found) ?? 0));
    $("bars").replaceChildren(...rows.map(([context, found]) => {
      const chosen = context === wish.context;
      const words = `${commas(context)} token${context === 1 ? "" : "s"}${chosen ? ", chosen" : ""}`;
      const size = found && up(plus(...Object.values(found)));
      const row = make("li", chosen ? { class: "kv-chosen" } : {}, make("span", {}, words),
        make("span", { class: "kv-bar-size" }, human(size)), bar(found, top));
      const there = found ? Object.entries(found).filter(([, x]) => x[0] > 0n) : [];
      if (there.length > 1) row.append(make("span", { class: "kv-parts" }, ...there.map(partWords)));
      return row;
    }));
  }

  function bar(found, top) {
    const node = make("span", { class: "kv-bar", "aria-hidden": "true" });
    for (const [name, bytes] of Object.entries(found ?? {})) {
      if (bytes[0] > 0n) node.append(swatch(name, `max(2px, ${(100 * real(bytes)) / top}%)`));
    }
    if (!found) node.classList.add("kv-blank");
    return node;
  }

  /** A piece in the colour and pattern of a part of the cache. */
  function swatch(name, width) {
    const node = make("span", { class: `kv-part kv-part-${name}` });
    node.style.color = attnbook.parts[name];
    node.style.width = width;
    return node;
  }

  const partWords = ([name, bytes]) =>
    make("span", {}, swatch(name, "0.7em"), ` ${name} ${human(bytes)}`);

  // --- the chart: memory against context, both axes logarithmic -------------------------

  const BOX = { left: 62, right: 328, top: 10, bottom: 188 };
  const AXIS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];
  const short = (power) => {
    const unit = Math.min(Math.floor(power / 10), 4);
    return `${2 ** (power - 10 * unit)}${["", "k", "M", "G", "T"][unit]}`;
  };

  /** Whole powers of two from low to high, at most `most` of them, evenly spaced. */
  function ticks(low, high, most) {
    const step = [1, 2, 5, 10, 20].find((s) => (high - low) / s < most) ?? 40;
    const first = Math.ceil(low / step) * step;
    return Array.from({ length: Math.floor((high - first) / step) + 1 }, (_, i) => first + i * step);
  }

  function draw(model, wish, bill, tokens) {
    const chart = $("chart"), log = Math.log2(wish.context);
    const low = Math.min(10, Math.floor(log)), high = Math.max(20, Math.ceil(log));
    const at = Array.from({ length: 61 }, (_, i) => Math.round(2 ** (low + ((high - low) * i) / 60)));
    const texts = [BigInt(wish.batch), 1n];
    const whole = (n) => times(bill.bytes_per_token_all_layers, texts, [BigInt(n), 1n]);
    const curves = {
      all: at.map((n) => [Math.log2(n), whole(n)]),
      held: at.map((n) => [Math.log2(n), ledger(model, { ...wish, context: n }).total_bytes]),
    };
    const sizes = Object.values(curves).flat().map(([, y]) => (y ? real(y) : 0)).filter((y) => y > 0);
    chart.closest("figure").hidden = !sizes.length; // no size is known, or nothing is held
    if (!sizes.length) return;
    const bottom = Math.floor(Math.log2(Math.min(...sizes)));
    const top = Math.max(Math.ceil(Math.log2(Math.max(...sizes))), bottom + 2);
    const { left, right, top: y1, bottom: y0 } = BOX;
    const x = (power) => left + ((right - left) * (power - low)) / (high - low);
    const y = (size) => y0 - ((y0 - y1) * (Math.log2(size) - bottom)) / (top - bottom);
    const parts = [];
    for (const power of ticks(bottom, top, 7)) {
      const level = y(2 ** power);
      const place = Math.min(Math.max(Math.floor(power / 10), 0), AXIS.length - 1);
      parts.push(make("line", { class: "kv-grid", x1: left, x2: right, y1: level, y2: level }),
        make("text", { x: left - 5, y: level + 3.5, "text-anchor": "end" },
          `${2 ** (power - 10 * place)} ${AXIS[place]}`));
    }
    for (const power of ticks(low, high, 7)) {
      parts.push(make("line", { class: "kv-axis", x1: x(power), x2: x(power), y1: y0, y2: y0 + 4 }),
        make("text", { x: x(power), y: y0 + 16, "text-anchor": "middle" }, short(power)));
    }
    parts.push(make("line", { class: "kv-axis", x1: left, x2: right, y1: y0, y2: y0 }),
      make("text", { x: (left + right) / 2, y: y0 + 34, "text-anchor": "middle" },
        "context, tokens (1k = 1,024)"));
    const limit = model.context && Math.log2(model.context);
    const inside = limit !== null && limit >= low && limit <= high;
    $("limit").hidden = !inside;
    if (inside) {
      parts.push(make("line", { class: "kv-limit", x1: x(limit), x2: x(limit), y1, y2: y0 }));
    }
    for (const [name, points] of Object.entries(curves)) {
      const known = points.filter(([, size]) => size && size[0] > 0n);
      const path = known.map(([power, size], i) =>
        `${i ? "L" : "M"}${x(power).toFixed(1)} ${y(real(size)).toFixed(1)}`);
      parts.push(make("path", { class: `kv-${name}`, d: path.join("") }));
    }
    const total = bill.total_bytes;
    if (total && total[0] > 0n) {
      parts.push(make("circle", { class: "kv-point", cx: x(log), cy: y(real(total)), r: 5 }));
    }
    chart.replaceChildren(...parts);
    chart.setAttribute("aria-label",
      `Memory against context, both axes logarithmic. At ${tokens} ${model.name} holds ` +
      `${human(total)}; if every layer kept all tokens, ${human(whole(wish.context))}.`);
  }

  // --- a pasted model -------------------------------------------------------------------

  let frame, asked = 0;

  /** The frame with the Python reader, made when it is first needed: a promise. */
  function reader() {
    frame ??= new Promise((done, failed) => {
      // allow-same-origin: without it a page from a folder may not load its own scripts.
      const node = make("iframe", { sandbox: "allow-scripts allow-same-origin", hidden: "",
        title: "The reader of configuration files", src: new URL("reader/reader.html", HERE) });
      addEventListener("message", ({ source, data }) => {
        if (source !== node.contentWindow || data.ready === undefined) return;
        if (data.ready) done(node.contentWindow);
        else failed();
      });
      node.addEventListener("error", failed);
      setTimeout(failed, 60_000);
      document.body.append(node);
    });
    return frame;
  }

  /** What attnbook.draw.page.answer says of a text: a promise of JSON. */
  async function answer(text, name) {
    const window = await reader();
    return new Promise((done) => {
      const id = (asked += 1);
      addEventListener("message", function hear({ source, data }) {
        if (source !== window || data.id !== id) return;
        removeEventListener("message", hear);
        done(data.found);
      });
      window.postMessage({ id, text, name }, "*"); // a page from a folder has no origin
    });
  }

  function refuse(words) {
    $("paste").open = true;
    $("reading").textContent = "";
    $("text-wrong").textContent = words;
    $("text").setAttribute("aria-invalid", "true");
  }

  /** Read a config.json, and show its model. */
  async function use(text, name = null) {
    $("text-wrong").textContent = "";
    $("text").removeAttribute("aria-invalid");
    if (text.length > attnbook.limits.largest) return refuse(attnbook.wrong.large);
    if (!text.trim()) return refuse("There is nothing to read: paste or open a config.json.");
    const mine = (use.last = Symbol(name));
    $("reading").textContent = frame ? "Reading …" : "Starting the reader …";
    await new Promise((done) => setTimeout(done, 30)); // so that this is seen
    let found;
    try {
      found = JSON.parse(await answer(text, name));
    } catch {
      frame = undefined;
    }
    if (mine !== use.last) return undefined; // another text came in the meantime
    if (!found) return refuse("The reader does not run here. attnbook kv reads the file.");
    if (found.wrong) return refuse(found.wrong);
    $("reading").textContent = "";
    add(found.model);
    return undefined;
  }

  function add(model) {
    const id = `pasted-${models.size}`;
    const same = [...models.values()].filter((x) => x.pasted && x.given === model.name).length;
    const name = `${model.name} (pasted${same ? ` ${same + 1}` : ""})`;
    models.set(id, { ...model, id, name, given: model.name, pasted: true });
    $("model").prepend(new Option(models.get(id).name, id));
    $("model").value = id;
    show();
    remember();
    $("model").focus();
  }

  /** A file that was opened or dropped; one that is too large is not read. */
  async function open(file) {
    if (!file) return undefined;
    if (file.size > attnbook.limits.largest) return refuse(attnbook.wrong.large);
    const name = file.name.replace(/\.json$/i, "").split("--").at(-1);
    let text;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    } catch {
      return refuse(attnbook.wrong.bytes);
    }
    return use(text, name === "config" ? null : name);
  }

  // --- the address: #model=llama-3-1-8b&context=131072&batch=1&dtype=bf16 ----------------

  let kept = 0, mine;
  const address = (model, wish) => `#${new URLSearchParams({ model: model.id, ...wish })}`;

  /** Put what is shown into the address; changes that follow at once are one step back. */
  function remember() {
    const hash = $("link").getAttribute("href"), now = Date.now();
    if (document.getElementById("kv").classList.contains("kv-stale") || location.hash === hash) return;
    mine = hash;
    if (now - kept < 1000) location.replace(hash);
    else location.hash = hash;
    kept = now;
  }

  /** Set the controls as the address says; what it does not say, or wrongly, as at first. */
  function obey() {
    const said = location.hash.slice(1);
    if (said && !said.includes("model=")) return; // another place in this page
    const wish = Object.fromEntries(new URLSearchParams(said));
    const lost = wish.model !== undefined && !models.has(wish.model);
    $("model-wrong").hidden = !lost;
    $("model-wrong").textContent = lost ? "The link is to a model that is not in the list." : "";
    $("model").value = models.has(wish.model) ? wish.model : FIRST.model;
    const formats = attnbook.limits.bits;
    $("dtype").value = Object.hasOwn(formats, wish.dtype) ? wish.dtype : FIRST.dtype;
    for (const name of ["context", "batch"]) {
      $(name).value = commas(/^\d{1,15}$/.test(wish[name]) ? wish[name] : FIRST[name]);
    }
    show();
  }

  // --- start ----------------------------------------------------------------------------

  function start() {
    const list = [...models.values()].map(({ name, id }) => new Option(name, id));
    $("model").replaceChildren(...list);
    const formats = Object.entries(attnbook.limits.bits);
    $("dtype").replaceChildren(...formats.map(([name, bits]) => new Option(`${name}, ${bits} bits`, name)));
    $("form").addEventListener("submit", (event) => event.preventDefault());
    $("controls").addEventListener("input", (event) => {
      if (event.target.id === "kv-slider") $("context").value = commas(2 ** event.target.value);
      if (event.target.id === "kv-model") $("model-wrong").hidden = true;
      show();
    });
    $("controls").addEventListener("change", remember);
    $("maximum").addEventListener("click", () => {
      $("context").value = commas(models.get($("model").value).context);
      show();
      remember();
    });
    addEventListener("hashchange", () => { if (location.hash !== mine) obey(); mine = null; });
    $("use").addEventListener("click", () => use($("text").value));
    $("text").addEventListener("paste", () => setTimeout(() => use($("text").value)));
    $("file").addEventListener("change", (event) => open(event.target.files[0]));
    const kv = document.getElementById("kv");
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    for (const name of ["dragover", "drop"]) {
      kv.addEventListener(name, (event) => { if (carries(event)) event.preventDefault(); });
    }
    kv.addEventListener("drop", (event) => { if (carries(event)) open(event.dataTransfer.files[0]); });
    for (const name of ["controls", "text", "use", "file"]) $(name).disabled = false;
    for (const name of ["model", "dtype"]) $(name).value = FIRST[name];
    obey();
    if (!drawn) show(); // the address names another place in this page
  }

  start();
})();
