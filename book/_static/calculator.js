/* The calculator of book/calculator.md: multiplies and adds what calculator_data.js holds,
   which attnbook.models has made. It fetches nothing and stores nothing. */
(() => {
  "use strict";
  const FIGURES = [
    "bytes_per_token_all_layers", "bytes_per_token_growing", "indexer_bytes_per_token",
    "window_bytes_max", "state_bytes", "total_bytes",
  ];
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

  /** Numbers that one layer of a group holds of `context` tokens (BigInt). */
  function held(group, context) {
    let window = exact(0), longest = context;
    if (group.window) {
      const [entry, tokens] = group.window.map(exact);
      const inside = tokens && [tokens[0] < context ? tokens[0] : context, 1n];
      window = times(entry, inside);
    }
    if (group.ratio !== null) {
      const ratio = BigInt(group.ratio);
      longest = (context / ratio) * ratio; // only whole entries are made
    }
    const rest = [longest, 1n];
    return plus(window, times(exact(group.growing), rest), times(exact(group.index), rest));
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
  const models = new Map(attnbook.models.map((model) => [model.name, model]));
  let spoken;

  /** A new element with attributes and text or children. */
  function make(tag, attributes = {}, ...children) {
    const svg = ["path", "line", "circle", "text", "g"].includes(tag);
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
    $("strip").textContent = model.strip;
    $("notes").replaceChildren(...remarks(model, wish).map((text) => make("li", {}, text)));
    const address = new URLSearchParams({ model: model.name, ...wish });
    $("link").setAttribute("href", `?${address}#the-calculator`);
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
    const name = make("th", { scope: "row" }, make("code", {}, kind.letter), ` ${kind.kind}`,
      make("span", { class: "kv-keeps" }, kind.keeps));
    const size = make("td", {}, number("data", { value: digits(bytes) }, human(bytes)));
    return make("tr", {}, name, make("td", {}, commas(layers)), size);
  }

  /** The sentence above the table at once; to a screen reader when the hand has stopped. */
  function say(sentence) {
    $("headline").textContent = sentence;
    clearTimeout(spoken);
    spoken = setTimeout(() => { $("status").textContent = sentence; }, 600);
  }

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
    if (!sizes.length) {
      chart.replaceChildren(make("text", { x: 170, y: 100, "text-anchor": "middle" },
        bill.total_bytes === null ? "The total is not known." : "Nothing is held."));
      chart.setAttribute("aria-label", "No curve: the total is not known or nothing is held.");
      return;
    }
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

  /** A model from what `attnbook export` prints. Throws an Error in words. */
  function parse(text) {
    if (text.length > 1e6) throw new Error("This is too long: over a million characters.");
    let found;
    try { found = JSON.parse(text); } catch { throw new Error("This is not whole JSON."); }
    if (found === null || typeof found !== "object" || !Array.isArray(found.groups)) {
      throw new Error(found && (found.model_type || found.architectures || found.text_config)
        ? "This is a config.json. Run the command above on it, and paste what it prints."
        : "This is not what the command above prints: it has no groups.");
    }
    const check = (right, what) => { if (!right) throw new Error(`${what} is not as the command prints it.`); };
    const words = (x) => typeof x === "string" && x.length <= 1000;
    const list = (x) => Array.isArray(x) && x.length <= 1000 && x.every(words);
    const count = (x) => Number.isSafeInteger(x) && x >= 1;
    const size = (x) => x === null || (Number.isSafeInteger(x) && x >= 0) ||
      (typeof x === "string" && /^\d{1,15}\/[1-9]\d{0,14}$/.test(x));
    check(words(found.name) && found.name.trim(), "name");
    check(found.context === null || count(found.context), "context");
    check(words(found.strip) || (typeof found.strip === "string" && found.strip.length <= 1e5), "strip");
    check(list(found.unknown), "unknown");
    check(list(found.notes), "notes");
    check(found.more && Object.values(found.more).every(list), "more");
    check(found.groups.length >= 1 && found.groups.length <= 2000, "groups");
    for (const g of found.groups) {
      check(g && [g.kind, g.letter, g.keeps].every(words), "kind");
      check(count(g.layers), "layers");
      check(g.ratio === null || count(g.ratio), "ratio");
      for (const name of ["entry", "growing", "index", "state"]) check(size(g[name]), name);
      check(g.window === null ||
        (Array.isArray(g.window) && g.window.length === 2 && g.window.every(size)), "window");
    }
    return found;
  }

  function use() {
    const wrong = $("text-wrong"), field = $("text");
    wrong.textContent = "";
    field.removeAttribute("aria-invalid");
    try {
      const model = parse(field.value);
      model.name = `${model.name.trim()} (pasted)`;
      if (!models.has(model.name)) $("model").prepend(new Option(model.name, model.name));
      models.set(model.name, model);
      $("model").value = model.name;
      show();
      $("model").focus();
    } catch (error) {
      wrong.textContent = error.message;
      field.setAttribute("aria-invalid", "true");
    }
  }

  // --- start ----------------------------------------------------------------------------

  function start() {
    $("model").replaceChildren(...[...models.keys()].map((name) => new Option(name, name)));
    const formats = Object.entries(attnbook.limits.bits);
    $("dtype").replaceChildren(...formats.map(([name, bits]) => new Option(`${name}, ${bits} bits`, name)));
    const address = new URLSearchParams(location.search);
    $("model").value = models.has(address.get("model")) ? address.get("model") : "gpt-oss 120B";
    $("dtype").value = Object.hasOwn(attnbook.limits.bits, address.get("dtype"))
      ? address.get("dtype") : "bf16";
    for (const name of ["context", "batch"]) {
      if (/^\d{1,15}$/.test(address.get(name) ?? "")) $(name).value = commas(address.get(name));
    }
    $("form").addEventListener("submit", (event) => event.preventDefault());
    $("form").addEventListener("input", (event) => {
      if (event.target.id === "kv-slider") $("context").value = commas(2 ** event.target.value);
      show();
    });
    $("maximum").addEventListener("click", () => {
      $("context").value = commas(models.get($("model").value).context);
      show();
    });
    $("use").addEventListener("click", use);
    for (const name of ["controls", "text", "use"]) $(name).disabled = false;
    show();
  }

  start();
})();
